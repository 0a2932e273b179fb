import json
import subprocess
import sys

from golden import ROOT

TOOL = ROOT / 'tools/analysis/print_metrics.py'


def show(*files):
    return subprocess.run(
        [sys.executable, TOOL, *files],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_rows_and_mean(tmp_path):
    files = []
    for i, value in enumerate((70.0, 72.5)):
        files.append(tmp_path / f'{i}.json')
        files[-1].write_text(json.dumps({'seg/mIoU': value, 'cls/F1': None}))
    rows = {
        line.split('|')[1].strip(): line.split('|')[2:-1]
        for line in show(*files).stdout.splitlines()
        if '|' in line
    }
    assert rows['mean'][0].strip() == '71.2'
    assert rows[str(files[0])][0].strip() == '70.0'
    assert rows['mean'][4].strip() == '-'  # no figure is not a zero


def test_missing_file(tmp_path):
    result = show(tmp_path / 'none.json')
    assert result.returncode != 0
    assert 'none.json cannot be read' in result.stdout
