import json

import pytest

from golden import ROOT
from scripts import load_script


@pytest.fixture
def show(monkeypatch):
    """Run the command."""
    tool = load_script(ROOT / 'tools' / 'analysis' / 'print_metrics.py')

    def show(*files):
        monkeypatch.setattr('sys.argv', ['print_metrics.py', *map(str, files)])
        tool.main()

    return show


def test_rows_and_mean(show, tmp_path, capsys):
    files = []
    for i, value in enumerate((70.0, 72.5)):
        files.append(tmp_path / f'{i}.json')
        files[-1].write_text(json.dumps({'seg/mIoU': value, 'cls/F1': None}))
    show(*files)
    rows = {
        line.split('|')[1].strip(): line.split('|')[2:-1]
        for line in capsys.readouterr().out.splitlines()
        if '|' in line
    }
    assert rows['mean'][0].strip() == '71.2'
    assert rows[str(files[0])][0].strip() == '70.0'
    assert rows['mean'][4].strip() == '-'  # no figure is not a zero


def test_missing_file(show, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        show(tmp_path / 'none.json')
    assert ended.value.code == 2
    assert 'none.json cannot be read' in capsys.readouterr().err
