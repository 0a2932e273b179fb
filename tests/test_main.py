"""``python -m mmseg_more``: what there is, and tools with the package imported first."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmseg_more import __main__ as runner


def test_own_tools_go_before_mmsegs():
    tools = runner.own_tools()
    assert {'train', 'test', 'infer', 'make_shapes'} <= set(tools)
    assert 'shapes_scene' not in tools  # a module that is no command line
    assert runner.find_tool('train') == tools['train']
    assert runner.find_tool('publish_model').parts[-4:-2] == ('.mim', 'tools')
    assert runner.find_tool('browse_dataset').parent.name == 'analysis_tools'


def test_unknown_tool():
    with pytest.raises(ValueError, match='no tool trian; did you mean train'):
        runner.find_tool('trian')
    with pytest.raises(ValueError, match='no tool 42; there are .*publish_model'):
        runner.find_tool('42')


def test_overview():
    text = runner.overview()
    assert f'torch {torch.__version__.split("+")[0]}' in text
    assert ' more_vit-b_coco more_vit-b_voc ' in text and 'publish_model' in text


@pytest.mark.parametrize('stack', ['openmmlab', 'onedl'])
def test_missing_packages(monkeypatch, stack):
    lines = ['torch>=2.6', 'pebble>=99', 'tensorboard==0.0.1; extra == "optional"']
    lines += ['pytest>=99; extra == "tests"', 'openmim==0.0.1; extra == "mim"']
    lines += ['setuptools<1; extra == "openmmlab"', 'setuptools<2; extra == "onedl"']
    monkeypatch.setattr(runner, 'requires', lambda name: lines)
    monkeypatch.setattr(runner, 'installed_stack', lambda: stack)
    setuptools = 'setuptools<1' if stack == 'openmmlab' else 'setuptools<2'
    expected = [
        f'missing, required: pip install "pebble>=99" "{setuptools}"',
        'missing, optional: pip install "tensorboard==0.0.1"',
        'missing, to use mim: pip install "openmim==0.0.1"',
    ]
    # the fork has a mim of its own, and openmim the same files
    assert list(runner.missing_packages()) == expected[: 3 if stack == 'openmmlab' else 2]


def test_checkout_that_is_not_installed(monkeypatch):
    def requires(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(runner, 'requires', requires)
    (line,) = runner.missing_packages()
    assert 'pip install -e .' in line


@pytest.mark.slow
def test_a_tool_of_mmseg_reads_what_mmengine_writes(repo_root, tmp_path):
    """PyTorch alone refuses the log in a checkpoint."""
    log = HistoryBuffer([1.0], [1])
    torch.save(dict(optimizer=1, log=log, weight=torch.ones(2)), tmp_path / 'a.pth')
    result = subprocess.run(
        [sys.executable, '-m', 'mmseg_more', 'publish_model', 'a.pth', 'b.pth'],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(repo_root)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    (published,) = tmp_path.glob('b-*.pth')
    assert set(torch.load(published)) == {'log', 'weight'}
