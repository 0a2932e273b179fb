import json
import re

import pytest

from golden import ROOT
from scripts import load_script


@pytest.fixture(scope='module')
def tool():
    return load_script(ROOT / 'tools' / 'analysis' / 'choose_checkpoint.py')


def training(folder, *validations):
    """A log: (step, mIoU, health, F1) of each validation, and lines of other kinds.

    As the runner writes it: health is a line of its own, and one of a training's weights
    may come before that of the weights that are validated.
    """
    lines = [dict(loss=1.0, step=50), {'health/score': 99.0, 'step': 60}]
    for step, miou, health, f1 in validations:
        lines.append({'health/score': 99.0, 'step': step})
        lines.append({'health/score': health, 'step': step})
        lines.append({'seg/mIoU': miou, 'cls/F1': f1, 'step': step})
    file = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return str(folder)


def test_choices(tool, tmp_path, capsys):
    one = training(tmp_path / 'a', (100, 20, 30, 97), (200, 60, 50, 98), (300, 40, 40, 99))
    two = training(tmp_path / 'b', (100, 10, 20, 90), (200, 70, 45, 95))
    tool.main([one, two, '--out', str(tmp_path / 'out.json')])
    rows = json.loads((tmp_path / 'out.json').read_text())
    assert rows[one]['best'] == 60 and rows[one]['best_step'] == 200
    assert rows[one]['health'] == 60 and rows[one]['health_step'] == 200
    assert rows[one]['F1'] == 40 and rows[one]['last'] == 40
    assert rows[one]['health_rank_correlation'] == pytest.approx(1)
    assert rows[one]['F1_rank_correlation'] == pytest.approx(0.5)
    mean = rows['mean; all together']
    assert (mean['best'], mean['health'], mean['F1'], mean['last']) == (65, 65, 55, 55)
    # ranks of 20 60 40 10 70 against those of 30 50 40 20 45: d = 0 1 0 0 1 up to order
    assert mean['health_rank_correlation'] == pytest.approx(0.9)
    assert 'mean; all together' in capsys.readouterr().out


def test_a_resumed_training_counts_once(tool, tmp_path):
    folder = tmp_path / 'a'
    training(folder, (100, 20, 30, 97), (200, 60, 50, 98))
    again = folder / '20260102_000000' / 'vis_data' / 'scalars.json'
    again.parent.mkdir(parents=True)
    again.write_text(
        json.dumps({'seg/mIoU': 61, 'health/score': 51, 'cls/F1': 98, 'step': 200}) + '\n'
    )
    found = tool.read_validations(folder, 'seg/mIoU')
    assert [(v.step, v.truth) for v in found] == [(100, 20), (200, 61)]


def test_too_few_validations(tool, tmp_path, mistake_of):
    assert re.search(
        'holds 1 validations .*val_interval',
        mistake_of(tool.main, [training(tmp_path / 'a', (100, 20, 30, 97))]),
    )
    assert 'holds 0 validations' in mistake_of(tool.main, [str(tmp_path / 'nothing')])
