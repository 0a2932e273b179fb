import json
import re

import pytest

from golden import ROOT
from scripts import load_script


@pytest.fixture(scope='module')
def tool():
    return load_script(ROOT / 'tools' / 'analysis' / 'judge_health.py')


def training(folder, floods, dies, **ious):
    """A finished one, checked every 100 iterations."""
    lines = [dict(loss=1.0, step=50)]
    for number, counts in enumerate(zip(floods, dies), 1):
        lines.append(
            {
                'health/floods': counts[0],
                'health/dies': counts[1],
                'health/score': 50.0,
                'step': 100 * number,
            }
        )
    file = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    metrics = {f'seg/IoU/{name}': value for name, value in ious.items()}
    (folder / 'metrics.json').write_text(json.dumps({'seg/mIoU': 60.0, **metrics}))
    return str(folder)


def test_judged(tool, tmp_path, capsys):
    floods = training(tmp_path / 'a', (0, 1, 1, 1, 1), (0,) * 5, cat=14.0, dog=70.0)
    dies = training(tmp_path / 'b', (0,) * 5, (0, 0, 0, 1, 1), cat=70.0, dog=5.0)
    missed = training(tmp_path / 'c', (0,) * 5, (0,) * 5, cat=40.0, dog=70.0)
    well = training(tmp_path / 'd', (0,) * 5, (0,) * 5, cat=60.0, dog=70.0)
    passing = training(tmp_path / 'e', (0, 1, 0, 0, 0), (0,) * 5, cat=60.0, dog=70.0)
    out = tmp_path / 'out.json'
    tool.main([floods, dies, missed, well, passing, '--out', str(out)])
    rows = json.loads(out.read_text())
    assert (rows[floods]['weakest'], rows[dies]['weakest']) == ('cat', 'dog')
    assert (rows[floods]['warned_at'], rows[dies]['warned_at']) == (40, 80)
    assert rows[missed]['lost'] and not rows[missed]['warned']
    assert rows[passing]['warned'] and not rows[passing]['ill_at_end']
    assert not rows[well]['lost'] and not rows[well]['warned']
    text = capsys.readouterr().out
    assert '3 trainings lost a class: 2 warned of, 1 before half of the training' in text
    assert '2 lost none: 1 warned of' in text
    tool.main([missed, '--lost', '30'])
    assert '0 trainings lost a class' in capsys.readouterr().out


def test_what_is_missing(tool, tmp_path, mistake_of):
    assert re.search(
        'holds no check .* train with HealthHook', mistake_of(tool.main, [str(tmp_path)])
    )
    folder = tmp_path / 'a'
    training(folder, (0,), (0,), cat=1.0)
    (folder / 'metrics.json').unlink()
    assert re.search('holds no metrics.json', mistake_of(tool.main, [str(folder)]))


def test_figures_that_there_are_not(tool, tmp_path, capsys, mistake_of):
    folder = tmp_path / 'a'
    training(folder, (0,), (0,), cat=None, dog=60.0)
    file = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    file.write_text(file.read_text().replace('health/score', 'health/other'))
    tool.main([str(folder)])
    row = next(line for line in capsys.readouterr().out.splitlines() if 'dog' in line)
    assert [cell.strip() for cell in row.split('|')][2:-1] == [
        'dog', '60.0', '', '', '', '-'
    ]  # fmt: skip
    (folder / 'metrics.json').write_text(json.dumps({'seg/mIoU': 60.0}))
    mistake = mistake_of(tool.main, [str(folder)])
    assert re.search(r'metrics.json holds no IoU .*seg/IoU/CLASS.* true masks', mistake)
