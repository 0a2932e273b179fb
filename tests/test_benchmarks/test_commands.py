import ast
import importlib
import json
import re
import subprocess
import sys

import matplotlib.image
import pytest
from setuptools import find_packages

from golden import ROOT

SHAPES = str(ROOT / 'configs/more/more_vit-t_shapes.py')
TINY = [
    '--size',
    '64',
    '--iters',
    '1',
    '--warmup',
    '0',
    '--device',
    'cpu',
    '--cfg-options',
    'model.backbone.arch.num_layers=3',
    'model.localization.scales=(1.,.5)',
]


def run(command, *arguments):
    """Run a benchmark as its command line does."""
    main = importlib.import_module(f'benchmarks.{command}').main
    main([str(argument) for argument in arguments])


def load(path):
    return json.loads(path.read_text())


@pytest.mark.slow
def test_step(tmp_path, capsys):
    out = tmp_path / 'new' / 'step.json'
    run(
        'step',
        SHAPES,
        '--out',
        out,
        '--batch-size',
        1,
        '--check-flops',
        '--compare',
        'scale_1',
        '--profile',
        tmp_path / 'trace.json',
        *TINY,
    )
    found = load(out)
    assert {'step_s', 'gemm_bound_s', 'ratio', 'overhead', 'peak_mb', 'stages'} <= set(
        found
    )
    for stage in (
        'data',
        'cam_x1',
        'cam_x0.5',
        'par',
        'labels',
        'forward',
        'cls',
        'cls_aux',
        'mct',
        'ptc',
        'cre',
        'ure',
        'seg',
        'energy',
        'backward',
        'optimizer',
    ):
        assert found['stages'][stage]['time_s'] > 0
        assert found['stages'][stage]['peak_mb'] > 0
    assert 0 <= found['overhead'] <= 1
    assert found['batch_size'] == 1 and found['size'] == [64, 64]
    assert found['check_flops']['ratio'] == pytest.approx(1, rel=0.01)
    assert found['compare']['scale_1']['memory'] > 0
    printed = capsys.readouterr().out
    assert 'GEMM bound' in printed and 'scale_1' in printed and 'cam_x0.5' in printed
    assert 'scaled_dot_product' in printed and 'wait for a GPU: none' in printed
    names = [event.get('name') for event in load(tmp_path / 'trace.json')['traceEvents']]
    assert 'aten::addmm' in names


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['none.py'], 'none.py does not exist'),
        ([SHAPES, '--size', '0'], '--size must be at least 1'),
        ([SHAPES, '--device', 'cpu', '--dtype', 'float16'], 'float16 needs a GPU'),
        ([SHAPES, '--compare', 'speed'], 'invalid choice'),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit):
        run('step', *arguments)
    assert message in capsys.readouterr().err


def test_maps(tmp_path, capsys):
    out = tmp_path / 'maps.json'
    arguments = ['--scales', '1', '.5', '--seg-scales', '1', '1.25', '--batch-size', 2]
    crf = ['--crf', '--crf-batches', 3, '--crf-workers', 1]
    run('maps', SHAPES, '--json', out, *arguments, *crf, *TINY)
    found = load(out)
    assert found['ratio'] == found['maps_s'] / found['gemm_bound_s'] > 0
    assert found['images_per_s'] == 1 / found['maps_s'] and found['peak_mb'] > 0
    assert found['shared_to_separate'] == found['maps_s'] / found['separate_s']
    assert found['gemm_bound_s'] == pytest.approx(
        found['flops_per_image'] / found['gemm_flops_per_s']
    )
    assert found['scales'] == [1, 0.5] and found['seg_scales'] == [1, 1.25]
    crf = found['crf']
    assert crf['workers'] == 1 and crf['images'] == 6
    assert crf['bound_s'] == max(crf['network_s'], crf['crf_s'])
    assert crf['ratio'] == crf['masks_s'] / crf['bound_s'] > 0
    assert crf['images_per_s'] == 1 / crf['masks_s']
    assert 'images/s' in capsys.readouterr().out


def test_data(tmp_path, capsys):
    out = tmp_path / 'data.json'
    run(
        'data',
        SHAPES,
        '--json',
        out,
        '--workers',
        1,
        '--samples',
        8,
        '--num-images',
        4,
        '--image-size',
        60,
        80,
        '--need',
        1e9,
    )
    found = load(out)
    assert list(found['samples_per_s']) == ['1']
    rate = found['samples_per_s_per_worker']
    assert found['workers_needed'] == pytest.approx(1e9 / rate, abs=1)
    names = list(found['transforms_s'])
    assert names[0] == '1 LoadImageFromFile'
    assert '4 RandomApply(PILColorJitter)' in names
    assert sum(found['transforms_s'].values()) == pytest.approx(found['sample_s'])
    assert 'samples/s per worker' in capsys.readouterr().out


def test_coco_instances(tmp_path, capsys):
    out = tmp_path / 'coco.json'
    run('coco_instances', '--num-images', 20, '--json', out)
    found = load(out)
    assert found['annotations'] == 144 and found['file_mb'] > 0.03
    assert min(found[key] for key in ('read_s', 'whole_s', 'draw_s')) > 0
    assert {'read_mb', 'whole_mb'} < set(found)
    assert 'whole_mb' in capsys.readouterr().out


@pytest.mark.slow
def test_scaling(tmp_path, capsys):
    picture, figures = tmp_path / 'scaling.png', tmp_path / 'scaling.json'
    run(
        'scaling',
        SHAPES,
        picture,
        '--json',
        figures,
        '--batch-size',
        1,
        '--sizes',
        '64',
        '96',
        '--batch-sizes',
        '--classes',
        '9',
        '--scales',
        *TINY,
    )
    found = load(figures)['axes']
    assert {axis: [row['value'] for row in rows] for axis, rows in found.items()} == {
        'size': [64, 96],
        'num_classes': [9],
    }
    table = capsys.readouterr().out
    assert '| image size, pixels |' in table and '| 96 |' in table
    first = matplotlib.image.imread(picture)
    again = tmp_path / 'again.png'
    run('scaling', SHAPES, again, '--from-json', figures)
    assert (matplotlib.image.imread(again) == first).all()
    assert capsys.readouterr().out == table


_HELP_OF_ALL = """
import runpy, sys
path = list(sys.path)
for command in sys.argv[1:]:
    sys.argv = [command, '--help']
    try:
        runpy.run_path(command, run_name='__main__')
    except SystemExit:
        pass
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith('benchmarks')]:
        del sys.modules[name]
"""


@pytest.mark.slow
def test_commands_are_found_from_anywhere(tmp_path):
    """As files, in a process that knows nothing of the checkout."""
    commands = sorted(ROOT.glob('benchmarks/[a-z]*.py'))
    assert {'step', 'maps', 'masks', 'data', 'scaling'} <= {c.stem for c in commands}
    shown = subprocess.run(
        [sys.executable, '-c', _HELP_OF_ALL, *commands],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for command in commands:
        assert f'usage: {command.name}' in shown


def test_nothing_of_the_product_is_private_or_replaced():
    """Only what anybody may use: no name that begins with _, no assignment to a module."""
    for path in sorted(ROOT.glob('benchmarks/**/*.py')):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        own = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names = [alias.name for alias in node.names]
                module = (node.module or '').split('.')
                if module[0] != 'torch':  # whose counting of memory is private so far
                    names += module
                assert not any(re.match('_[a-z]', name) for name in names), path
            elif isinstance(node, ast.Attribute) and re.match('_[a-z]', node.attr):
                public = node.attr in ('_asdict', '_replace', '_fields')  # NamedTuple
                mine = isinstance(node.value, ast.Name) and node.value.id == 'self'
                assert public or mine or node.attr in own, f'{path}: {node.attr}'


def test_benchmarks_are_no_part_of_the_wheel():
    packages = find_packages(str(ROOT), include=['mmseg_more', 'mmseg_more.*'])
    assert not any('benchmark' in name for name in packages)
    for name in ('MANIFEST.in', 'setup.py'):
        assert 'benchmark' not in (ROOT / name).read_text(encoding='utf-8')
