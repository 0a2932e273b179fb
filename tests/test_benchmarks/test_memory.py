import json
from contextlib import nullcontext

import pytest
import torch

from benchmarks import memory
from benchmarks.memory import Case, Line, line
from golden import ROOT

CPU = torch.device('cpu')
SHAPES = str(ROOT / 'configs/more/more_vit-t_shapes.py')


def test_line():
    assert line({8: 1500.0, 4: 1300.0}) == Line(1100.0, 50.0)
    # 8 GB, of which 1 is kept
    assert Line(1024.0, 512.0).largest_batch(8, 1) == 12
    assert Line(9000.0, 512.0).largest_batch(8, 1) == 0


@pytest.mark.slow
def test_counting_is_that_of_a_real_step(tiny_config, monkeypatch):
    """The tracker sees the same tensors where the step is computed."""
    case = Case(None, 64, 'float32')
    counted = memory.peak_mb(tiny_config, case, 2, CPU)
    monkeypatch.setattr(memory, 'FakeTensorMode', lambda **_: nullcontext())
    assert memory.peak_mb(tiny_config, case, 2, CPU) == pytest.approx(counted, rel=1e-3)


@pytest.mark.slow
def test_switches(tiny_config):
    def found(*switches):
        case = Case(None, 64, 'float32', switches)
        return memory.measure(tiny_config, case, (4, 8), (1,), 0.5, CPU)

    plain = found()
    weights_mb = plain['parameters'] * 4 / 2**20
    # weights and Adam's two averages; the rest is of the size of the batch alone
    assert plain['fixed_mb'] == pytest.approx(3 * weights_mb, rel=0.1)
    accumulated = found('accumulation')
    more = accumulated['fixed_mb'] - plain['fixed_mb']
    assert more == pytest.approx(weights_mb, rel=0.1)
    assert accumulated['per_image_mb'] == pytest.approx(plain['per_image_mb'], rel=0.05)
    assert found('checkpointing')['per_image_mb'] < plain['per_image_mb']


@pytest.mark.slow
def test_command(tmp_path, capsys):
    out = tmp_path / 'memory.json'
    memory.main(
        [
            *(SHAPES, '--sizes', '64', '--dtypes', 'float32', '--json', str(out)),
            *('--switches', 'checkpointing+chunks', '--batch-sizes', '1', '2'),
            *('--gpus', '4', '--cfg-options', 'model.localization.scales=(1.,)'),
        ]
    )
    (case,) = json.loads(out.read_text())['cases'].values()
    fitted = Line(case['fixed_mb'], case['per_image_mb'])
    assert case['largest_batch'] == {'4.0': fitted.largest_batch(4, 1.5)}
    assert '64, float32, checkpointing, chunks' in capsys.readouterr().out


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['none.py'], 'none.py does not exist'),
        ([SHAPES, '--switches', 'cp'], r"['cp'] not in"),
        ([SHAPES, '--batch-sizes', '2', '2'], 'two different numbers'),
        ([SHAPES, '--dtypes', 'float16'], 'float16 needs a GPU'),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit):
        memory.main(arguments)
    assert message in capsys.readouterr().err
