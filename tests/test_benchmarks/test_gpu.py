"""The measurements for a GPU, tried on a CPU with tiny sizes."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks import gpu
from golden import ROOT

SHAPES = str(ROOT / 'configs/more/more_vit-t_shapes.py')
TINY = [
    *('--size', '64', '--iters', '1', '--device', 'cpu', '--batch-sizes', '1'),
    *('--cfg-options', 'model.backbone.arch.num_layers=3', 'model.pretrained=None'),
]


def test_cases():
    cases = gpu.cases([4, 16], ['float32', 'tf32', 'bfloat16'])
    names = [f'{group}: {case.name}' for group, case in cases]
    assert names[0] == 'steps: batch 4, bfloat16' and len(set(names)) == len(names)
    assert {
        'steps: batch 16, float32',
        'steps: batch 4, tf32',
        'steps: batch 16, bfloat16, compile',
        'maps: batch 1, bfloat16, graphs',
    } <= set(names)


@pytest.mark.slow
def test_figures(tmp_path):
    only = ['--dtypes', 'float32', 'bfloat16', '--only', 'batch 1, bfloat16, graphs']
    gpu.main([SHAPES, '--out', str(tmp_path), *TINY, *only])
    found = json.loads((tmp_path / 'gpu.json').read_text())
    name = 'batch 1, bfloat16, graphs'
    assert not found['errors'] and list(found['steps']) == list(found['maps']) == [name]
    step = found['steps'][name]
    rate = step['flops']['total'] / step['step_s']
    assert step['mfu'] == pytest.approx(rate / found['rates']['all']['bfloat16'])
    assert step['waits'] == 'none' and found['maps'][name]['crf']['images_per_s'] > 0
    lines = (tmp_path / 'gpu.md').read_text().splitlines()
    assert sum(line.startswith(f'| {name} |') for line in lines) == 2


def test_a_case_that_fails_stops_no_other(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError('out of memory')

    monkeypatch.setattr(gpu, 'measure_step', fail)
    monkeypatch.setattr(gpu, 'measure_maps', fail)
    gpu.main([SHAPES, '--out', str(tmp_path), '--dtypes', 'bfloat16', *TINY])
    found = json.loads((tmp_path / 'gpu.json').read_text())
    assert len(found['errors']) == len(gpu.cases([1], ['bfloat16']))
    text = (tmp_path / 'gpu.md').read_text()
    assert '* steps: batch 1, bfloat16: RuntimeError: out of memory' in text


@pytest.mark.slow
def test_the_whole_script(tmp_path):
    settings = dict(
        PYTHON=sys.executable,
        DEVICE='cpu',
        MEASURE=' '.join([SHAPES, '--only', 'nothing', *TINY[:-3]]),
        TESTS='tests/test_files.py',
        GOLDEN='tests/test_localization/test_golden_ops.py -k affinity_pairs',
        DRAW='--num-train 8 --num-val 2',
        DEMO='train_cfg.max_iters=1 train_dataloader.batch_size=2 '
        'default_hooks.health=None default_hooks.localization.draw=False',
    )
    subprocess.run(
        ['bash', str(ROOT / 'benchmarks/gpu.sh'), str(tmp_path / 'out')],
        env=dict(os.environ, CUDA_VISIBLE_DEVICES='-1', **settings),
        check=True,
    )
    out = tmp_path / 'out'
    lines = (out / 'summary.txt').read_text().splitlines()
    parts = {line.split(':')[0]: line for line in lines}
    assert {'measurements', 'tests', 'reference-figures', 'gpu-tests', 'drawing'} <= set(
        parts
    )
    assert all(': exit 0 after ' in line for line in lines), lines
    assert '1 passed' in parts['reference-figures']
    assert 'seg/mIoU' in json.loads((out / 'demo.json').read_text())
    assert (out / 'logs.tar.gz').stat().st_size and not (out / 'trace.json').exists()
