import json
import math
from argparse import Namespace

import pytest

from scripts import analysis_script

KEYS = 'seg/mIoU', 'lam/mIoU', 'cam/mIoU'


@pytest.fixture
def compare(monkeypatch, capsys):
    """Run the command; its exit status, and all that it printed."""

    def compare(*arguments):
        with analysis_script('compare_runs') as tool:
            monkeypatch.setattr('sys.argv', ['compare_runs.py', *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                tool.main()
        return Namespace(returncode=ended.value.code, stdout=''.join(capsys.readouterr()))

    return compare


def write_run(folder, figures=None, loss=1.0):
    log = folder / '20260101_000000' / 'vis_data'
    log.mkdir(parents=True)
    lines = [
        dict(loss=0.5, loss_cls=0.5, step=1),
        dict(loss=loss, loss_cls=0.2, step=2),
        {'seg/mIoU': 1.0, 'step': 2},
    ]
    (log / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    if figures:
        (folder / 'metrics.json').write_text(json.dumps(dict(zip(KEYS, figures))))


@pytest.fixture
def runs(tmp_path):
    for seed, figures in enumerate([(70, 60, 50), (72, 62, 52)]):
        write_run(tmp_path / 'a' / str(seed), figures)
    write_run(tmp_path / 'b' / '0', (73, 60, 50))
    write_run(tmp_path / 'b' / '1', (70.6, 62, 50.4))
    return tmp_path


def test_means_within_the_tolerance(compare, runs):
    """Single seeds may differ by more."""
    result = compare(runs / 'a', runs / 'b')
    assert result.returncode == 0, result.stdout
    assert result.stdout.count('2 logged iterations, all finite') == 4
    last = result.stdout.splitlines()[-2].split('|')
    assert [cell.strip() for cell in last[1:-1]] == [
        'mean difference',
        '+0.80',
        '+0.00',
        '-0.80',
    ]
    assert '72.0 -> 70.6' in result.stdout
    assert compare(runs / 'a', runs / 'b', '--tolerance', 0.5).returncode == 1


@pytest.mark.parametrize('loss', [math.nan, math.inf])
def test_a_loss_that_is_not_finite(compare, runs, loss):
    write_run(runs / 'a' / '2')
    write_run(runs / 'b' / '2', loss=loss)
    result = compare(runs / 'a', runs / 'b', '--losses')
    assert result.returncode == 1
    assert (
        'b/2: losses of 2 logged iterations, not finite in 1, first in 2: loss'
        in result.stdout
    )


def test_a_run_that_is_missing(compare, runs):
    (runs / 'b' / '1' / 'metrics.json').unlink()
    result = compare(runs / 'a', runs / 'b')
    assert result.returncode == 2 and 'b/1/metrics.json does not exist' in result.stdout
    assert compare(runs / 'a', runs / 'b', '--losses').returncode == 0
    write_run(runs / 'a' / '2')
    result = compare(runs / 'a', runs / 'b', '--losses')
    assert result.returncode == 2 and 'b/2 holds no log of a training' in result.stdout
    assert 'holds no folder of a run' in compare(runs / 'none', runs / 'b').stdout
