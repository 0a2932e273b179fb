"""The documented pair of commands: masks of a trained MoRe, then a stock model on them."""

import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from golden import ROOT

from mmseg.registry import MODELS

pytestmark = pytest.mark.slow
CONFIG = ROOT / 'configs/more/more_vit-t_shapes.py'
SMALL = {
    'model.backbone.arch.embed_dims': 16,
    'model.backbone.arch.num_layers': 3,
    'model.graph.embed_dims': 16,
    'model.decode_head.in_channels': 16,
    'model.decode_head.channels': 8,
}


def run(folder, *command):
    """Run a tool in ``folder``; its exit status and what it printed."""
    environment = dict(
        os.environ,
        CUDA_VISIBLE_DEVICES='-1',
        OMP_NUM_THREADS='1',
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
    )
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        text=True,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return result.returncode, result.stdout


def data_options(*parts):
    return [
        f'{part}_dataloader.{option}'
        for part in parts
        for option in (
            'dataset.data_root=shapes',
            'num_workers=0',
            'persistent_workers=False',
            'batch_size=4',
        )
    ]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Some shapes, and a MoRe that never trained."""
    folder = tmp_path_factory.mktemp('two_stage')
    code, output = run(
        folder,
        ROOT / 'tools/dataset_converters/make_shapes.py',
        'shapes',
        '--num-train',
        8,
        '--num-val',
        2,
    )
    assert code == 0, output
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(SMALL)
    init_default_scope('mmseg')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'more.pth')
    return folder


TRAIN = [
    '--cfg-options',
    *data_options('train', 'val', 'test'),
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=2',
    'default_hooks.checkpoint.interval=2',
]


@pytest.fixture(scope='module')
def masks(folder):
    """Masks of the training images, as in the documentation."""
    code, output = run(
        folder,
        ROOT / 'tools/test.py',
        CONFIG,
        'more.pth',
        '--pseudo-labels',
        'masks',
        '--split',
        'train',
        '--source',
        'lam',
        '--crf',
        '--single-scale',
        '--crf-workers',
        1,
        '--work-dir',
        'masks_log',
        '--cfg-options',
        *data_options('train', 'val', 'test'),
        *(f'{key}={value}' for key, value in SMALL.items()),
    )
    assert code == 0, output[-3000:]
    return 'masks'


@pytest.mark.parametrize(
    'name, losses',
    [
        ('segformer_b0_shapes', ['decode.loss_ce']),
        ('fcn_more-vit_shapes', ['decode.loss_seg', 'decode.loss_energy', 'aux.loss_ptc']),
    ],
)
def test_masks_then_training(folder, masks, name, losses):
    code, output = run(
        folder,
        ROOT / 'tools/train.py',
        ROOT / f'configs/two_stage/{name}.py',
        *TRAIN,
        f'train_dataloader.dataset.pseudo_dir={masks}',
        'default_hooks.logger.interval=1',
        'work_dir=' + name,
    )
    assert code == 0, output[-3000:]
    assert (folder / name / 'iter_2.pth').is_file()
    assert 'mIoU' in output and '|  hexagon   |' in output
    for loss in losses:
        assert f'{loss}: ' in output


def test_without_masks_it_says_how_to_make_them(folder):
    code, output = run(
        folder,
        ROOT / 'tools/train.py',
        ROOT / 'configs/two_stage/segformer_b0_shapes.py',
        *TRAIN,
    )
    assert code != 0
    error = output.strip().splitlines()[-1]
    assert 'pseudo labels work_dirs/demo/pseudo_labels does not exist' in error
    assert 'tools/test.py CONFIG CHECKPOINT --pseudo-labels DIR --split train' in error
