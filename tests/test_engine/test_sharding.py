"""Weights that are shared out over two processes (FSDP), on CPUs."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.testing import assert_close

import tiny_run
from field_datasets import VOC_LABELS, write_voc
from golden import ROOT
from mmseg_more.engine.sharding import ShardedRunner, keep_whole

from mmseg.registry import MODELS, RUNNERS

SHARDED = ROOT / 'configs/more/more_vit-l_voc_fsdp.py'
PLAIN = ROOT / 'configs/more/more_vit-b_voc.py'
LENGTH = 4


ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)


def small(shipped, path, data, start):
    """A shipped config: the network and the images small, all losses in four iterations."""
    cfg = Config.fromfile(shipped)
    cfg.model.backbone.arch = ARCH
    cfg.merge_from_dict(
        {
            'model.decode_head.channels': 8,
            'model.losses.seg.begin': 1,
            'model.losses.energy.begin': 1,
            'model.data_preprocessor.size': (64, 64),
            'param_scheduler.0.warmup_iters': 1,
            'train_cfg.max_iters': LENGTH,
            'train_cfg.val_interval': LENGTH,
            'default_hooks.checkpoint.interval': 2,
            'default_hooks.logger.interval': 1,
            'default_hooks.sanity_check.classes_without_images': True,
            'default_hooks.localization.maps': ('cam', 'lam', 'fused', 'attention'),
            'load_from': str(start),
            'randomness': dict(seed=0),
            'train_dataloader.batch_size': 2,
        }
    )
    for part in ('train', 'val', 'test'):
        loader = cfg[f'{part}_dataloader']
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.data_root = str(data)
        loader.dataset.pipeline[1].scale = (64, 64)
    cfg.dump(path)
    return path


def run(*command):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = dict(
        os.environ,
        CUDA_VISIBLE_DEVICES='-1',
        OMP_NUM_THREADS='1',
        PORT=str(port),
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]),
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
    )
    result = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def train(shipped, work_dir, data, start, *more):
    work_dir.mkdir(exist_ok=True)
    config = small(shipped, work_dir.parent / f'{work_dir.name}.py', data, start)
    script = ROOT / 'tools/dist_train.sh'
    run('bash', script, config, 2, '--work-dir', work_dir, *more)
    return work_dir


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """VOC of five images, and the weights to start with."""
    root = write_voc(tmp_path_factory.mktemp('voc') / 'VOC2012')
    splits = root / 'ImageSets/Segmentation'
    (splits / 'train_aug.txt').write_text('\n'.join(VOC_LABELS) + '\n')
    return root


@pytest.fixture(scope='module')
def start(tmp_path_factory):
    cfg = Config.fromfile(SHARDED).model
    cfg.backbone.arch = ARCH
    cfg.decode_head.channels = 8
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    path = tmp_path_factory.mktemp('start') / 'start.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.fixture(scope='module')
def sharded(data, start, tmp_path_factory):
    return train(SHARDED, tmp_path_factory.mktemp('run') / 'sharded', data, start)


def logged(work_dir):
    """The lines of the log: of each iteration, and of the validation at the end."""
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def losses(work_dir):
    """All losses of each iteration."""
    return [
        {key: value for key, value in line.items() if 'loss' in key}
        for line in logged(work_dir)
        if 'loss' in line
    ]


def checkpoint(work_dir, iteration):
    return torch.load(work_dir / f'iter_{iteration}.pth', weights_only=False)


def without_key_biases(weights):
    """On which nothing depends: softmax takes no notice, and their gradient is rounding."""
    kept = dict(weights)
    for name in [name for name in weights if name.endswith('qkv.bias')]:
        query, _, value = kept[name].chunk(3)
        kept[name] = torch.cat([query, value])
    return kept


@pytest.mark.slow
def test_as_without_shares(sharded, data, start, tmp_path):
    """Losses, gradients and checkpoints are DistributedDataParallel's."""
    plain = train(PLAIN, tmp_path / 'plain', data, start)
    found, expected = losses(sharded), losses(plain)
    assert len(found) == LENGTH and 'loss_energy' in found[-1]
    # sums over two processes in another order; float32 holds 1e-7
    assert_close(found, expected, rtol=1e-5, atol=1e-8)
    figures, expected_figures = logged(sharded)[-1], logged(plain)[-1]
    assert 'attention/mIoU' in figures and set(figures) == set(expected_figures)
    found, expected = checkpoint(sharded, LENGTH), checkpoint(plain, LENGTH)
    assert list(found) and set(found) == set(expected)
    assert found['meta']['iter'] == expected['meta']['iter'] == LENGTH
    assert list(found['state_dict']) == list(expected['state_dict'])
    # a step of Adam is of the size of the rate, 6e-5, also where a gradient is all rounding
    weights = (without_key_biases(c['state_dict']) for c in (found, expected))
    assert_close(*weights, rtol=0, atol=1e-6)
    state, expected_state = (c['optimizer'] for c in (found, expected))
    assert state['param_groups'] == expected_state['param_groups']
    for index, moments in expected_state['state'].items():
        for name, value in moments.items():
            scale = value.abs().max().item()
            assert_close(state['state'][index][name], value, rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
def test_resumed(sharded, data, start, tmp_path):
    """From a checkpoint in the middle, bit for bit."""
    work_dir = tmp_path / 'resumed'
    work_dir.mkdir()
    shutil.copy(sharded / 'iter_2.pth', work_dir)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_2.pth'))
    train(SHARDED, work_dir, data, start, '--resume')
    assert losses(work_dir) == losses(sharded)[2:]
    for part in ('state_dict', 'optimizer'):
        found, expected = (checkpoint(c, LENGTH)[part] for c in (work_dir, sharded))
        assert_close(found, expected, rtol=0, atol=0)


@pytest.fixture
def train_tiny(tmp_path):
    """Train a model without blocks."""

    def train_tiny(**changes):
        path = tmp_path / f'{tmp_path.name}.py'
        path.write_text(tiny_run.CONFIG)
        cfg = Config.fromfile(path)
        cfg.merge_from_dict(
            dict(
                runner_type='ShardedRunner',
                strategy=dict(type='ShardedStrategy'),
                work_dir=str(tmp_path),
                launcher='none',
                env_cfg={},
                **changes,
            )
        )
        with DefaultScope.overwrite_default_scope('mmseg'):
            RUNNERS.build(cfg).train()

    return train_tiny


@pytest.mark.parametrize('kind', ['EMAHook', 'MeanTeacherHook', 'HealthHook'])
def test_hooks_that_need_all_weights(train_tiny, kind):
    with pytest.raises(ValueError, match=f'{kind} needs all weights in each process'):
        train_tiny(custom_hooks=[dict(type=kind)])


def test_model_without_blocks(train_tiny):
    with pytest.raises(ValueError, match='blocks of MoReViT, and TinyModel has none'):
        train_tiny(custom_hooks=[])


@pytest.mark.parametrize('kind', ['ShardedRunner', ShardedRunner, 'mmseg.ShardedRunner'])
def test_whole_weights(kind):
    cfg = Config(dict(runner_type=kind, strategy=dict(type='ShardedStrategy'), seed=0))
    assert 'not shared out' in keep_whole(cfg)
    assert cfg.to_dict() == dict(seed=0)
    assert keep_whole(cfg) is None


def test_other_runners_stay():
    cfg = Config(dict(runner_type='FlexibleRunner', strategy=dict(type='DDPStrategy')))
    assert keep_whole(cfg) is None
    assert cfg.runner_type == 'FlexibleRunner' and 'strategy' in cfg
