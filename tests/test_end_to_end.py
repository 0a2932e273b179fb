"""The real model on real files, through MMSegmentation's and our command lines."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from golden import ROOT

import mmseg

pytestmark = pytest.mark.slow
CONFIG = ROOT / 'configs/more/more_vit-t_shapes.py'
MMSEG_TOOLS = Path(mmseg.__file__).parent / '.mim' / 'tools'
MAPS = ('cam', 'lam', 'fused', 'attention')


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """12 training and 4 validation images."""
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    subprocess.run(
        [
            sys.executable,
            ROOT / 'tools/dataset_converters/make_shapes.py',
            folder,
            '--num-train',
            '12',
            '--num-val',
            '4',
        ],
        check=True,
    )
    return folder


def options(data_root, max_iters=4):
    """All losses count within four iterations of a very small model."""
    roots = [
        f'{part}_dataloader.dataset.data_root={data_root}'
        for part in ('train', 'val', 'test')
    ]
    begins = [
        f'model.losses.{name}.begin={begin}'
        for name, begin in (('ptc', 0), ('cre', 0), ('ure', 0), ('seg', 1), ('energy', 1))
    ]
    small = [
        'model.pretrained=None',  # of another size
        'model.backbone.arch.embed_dims=16',
        'model.graph.embed_dims=16',
        'model.backbone.arch.num_layers=3',
        'model.decode_head.in_channels=16',
        'model.decode_head.channels=8',
    ]
    loaders = [
        f'{part}_dataloader.{key}'
        for part in ('train', 'val', 'test')
        for key in ('num_workers=0', 'persistent_workers=False', 'batch_size=4')
    ]
    return [
        '--cfg-options',
        *roots,
        *begins,
        *small,
        *loaders,
        f'train_cfg.max_iters={max_iters}',
        f'train_cfg.val_interval={max_iters}',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.logger.interval=1',
        'randomness.seed=0',
    ]


def run(*command, check=True):
    environment = dict(
        os.environ,
        CUDA_VISIBLE_DEVICES='-1',
        OMP_NUM_THREADS='1',
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
    )
    result = subprocess.run(
        [*map(str, command)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if check:
        assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def scalars(work_dir):
    """The numbers of all logs of a work folder, in order."""
    return [
        json.loads(line)
        for file in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in file.read_text().splitlines()
    ]


@pytest.fixture(scope='module')
def trained(shapes, tmp_path_factory):
    """A run of MMSegmentation's own tools/train.py."""
    work_dir = tmp_path_factory.mktemp('mmseg') / 'run'
    output = run(
        sys.executable,
        MMSEG_TOOLS / 'train.py',
        CONFIG,
        '--work-dir',
        work_dir,
        *options(shapes),
    )
    return work_dir, output


def test_mmseg_train_script(trained):
    work_dir, output = trained
    steps = [line for line in scalars(work_dir) if 'loss' in line]
    assert [{k[5:] for k in step if k.startswith('loss_')} for step in steps] == [
        {'cls', 'cls_aux', 'mct'},
        {'cls', 'cls_aux', 'mct', 'ptc', 'cre', 'ure'},
    ] + 2 * [{'cls', 'cls_aux', 'mct', 'ptc', 'cre', 'ure', 'seg', 'energy'}]
    figures = scalars(work_dir)[-1]
    for name in ('seg', *MAPS):
        assert 0 <= figures[f'{name}/mIoU'] <= 100
    assert {'cls/F1', 'cls/mAP'} <= set(figures)
    for heading in ('CAM', 'LAM', 'fused', 'segmentation', 'eta:'):
        assert heading in output
    assert list(work_dir.glob('*/vis_data/vis_image/localization_val_*.png'))


def test_mmseg_test_script(trained, shapes, tmp_path):
    """Gives the figures of the validation in training; writes metrics.json and, with
    --out, the predictions."""
    work_dir, _ = trained
    arguments = options(shapes) + [f'test_evaluator.out_json={tmp_path}/m.json']
    run(
        sys.executable,
        MMSEG_TOOLS / 'test.py',
        CONFIG,
        work_dir / 'iter_4.pth',
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'out',
        *arguments,
    )
    written = {path.stem: Image.open(path).size for path in (tmp_path / 'out').iterdir()}
    images = (shapes / 'ImageSets/Segmentation/val.txt').read_text().split()
    assert written == dict.fromkeys(images, (96, 96))
    figures = json.loads((tmp_path / 'm.json').read_text())
    expected = scalars(work_dir)[-1]
    for name in ('seg/mIoU', 'lam/mIoU', 'cam/mIoU', 'fused/mIoU', 'cls/F1', 'cls/mAP'):
        assert figures[name] == pytest.approx(expected[name], abs=1e-3)


def test_test_time_augmentation(trained, shapes, tmp_path):
    work_dir, _ = trained
    output = run(
        sys.executable,
        ROOT / 'tools/test.py',
        CONFIG,
        work_dir / 'iter_4.pth',
        '--work-dir',
        tmp_path,
        '--tta',
        '--show-dir',
        tmp_path / 'shown',
        *options(shapes),
    )
    assert 'seg/mIoU' in output


def test_pseudo_labels(trained, shapes, tmp_path):
    """Of the training images, whose masks are not there."""
    work_dir, _ = trained
    data, folder = tmp_path / 'no_masks', tmp_path / 'masks'
    shutil.copytree(shapes, data)
    shutil.rmtree(data / 'SegmentationClass')
    command = (
        sys.executable,
        ROOT / 'tools/test.py',
        CONFIG,
        work_dir / 'iter_4.pth',
        '--work-dir',
        tmp_path / 'work',
        '--pseudo-labels',
        folder,
        '--source',
        'fused',
        '--split',
        'train',
        '--crf',
        '--crf-workers',
        1,
    )
    run(*command, *options(data))
    names = (data / 'ImageSets/Segmentation/train.txt').read_text().split()
    assert sorted(path.stem for path in folder.glob('*.png')) == sorted(names)
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['settings']['source'] == 'fused'
    # again: nothing to do; other settings in the same folder: refused
    assert '0 of 12 masks are to be made' in run(*command, *options(data))
    other = run(*command, '--single-scale', *options(data), check=False)
    assert 'scales' in other.splitlines()[-1]


def test_protocols(trained, shapes, tmp_path):
    work_dir, _ = trained
    output = run(
        sys.executable,
        ROOT / 'tools/test.py',
        CONFIG,
        work_dir / 'iter_4.pth',
        '--work-dir',
        tmp_path,
        '--protocols',
        tmp_path / 'p.json',
        *options(shapes),
    )
    assert 'multi-scale + CRF' in output and '4 images' in output
    figures = json.loads((tmp_path / 'p.json').read_text())
    expected = scalars(work_dir)[-1]
    for name in ('cam', 'lam', 'fused', 'seg'):
        assert figures[f'{name}/raw/mIoU'] == pytest.approx(
            expected[f'{name}/mIoU'], abs=0.05
        )  # a few pixels at a tie
        assert 0 <= figures[f'{name}/ms_crf/mIoU'] <= 100


def test_training_never_opens_a_mask(shapes, tmp_path):
    """With the mask folder deleted, and resumed from the middle."""
    data = tmp_path / 'no_masks'
    shutil.copytree(shapes, data)
    shutil.rmtree(data / 'SegmentationClass')
    arguments = options(data) + [
        'val_cfg=None',
        'val_dataloader=None',
        'val_evaluator=None',
        'default_hooks.checkpoint.save_best=None',
    ]
    command = (
        sys.executable,
        ROOT / 'tools/train.py',
        CONFIG,
        '--work-dir',
        tmp_path / 'run',
    )
    shorter = [a.replace('max_iters=4', 'max_iters=2') for a in arguments]
    run(*command, *shorter)
    run(*command, '--resume', *arguments)
    steps = [line for line in scalars(tmp_path / 'run') if 'loss' in line]
    assert [step['step'] for step in steps] == [1, 2, 3, 4]
    # the schedule goes on too: seg starts after iteration 1
    assert ['loss_seg' in step for step in steps] == [False, False, True, True]


def test_two_processes_with_amp(shapes, tmp_path):
    run(
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--nproc_per_node',
        2,
        '--master_port',
        29653,
        ROOT / 'tools/train.py',
        CONFIG,
        '--work-dir',
        tmp_path,
        '--launcher',
        'pytorch',
        '--amp',
        *options(shapes),
    )
    lines = scalars(tmp_path)
    assert all(
        torch.isfinite(torch.tensor(line['loss'])) for line in lines if 'loss' in line
    )
    assert 0 <= lines[-1]['seg/mIoU'] <= 100
    assert (tmp_path / 'iter_4.pth').exists()


def test_checkpoint_of_another_number_of_classes(trained, shapes, tmp_path):
    work_dir, _ = trained
    output = run(
        sys.executable,
        ROOT / 'tools/test.py',
        CONFIG,
        work_dir / 'iter_4.pth',
        '--work-dir',
        tmp_path,
        *options(shapes),
        'model.num_classes=4',
        'model.backbone.num_classes=4',
        'model.decode_head.num_classes=5',
        check=False,
    )
    assert 'error: ' in output and 'Traceback' not in output
    assert '6' in output and '4' in output and 'num_classes' in output


def test_typo_in_a_nested_key(shapes, tmp_path):
    output = run(
        sys.executable,
        MMSEG_TOOLS / 'train.py',
        CONFIG,
        '--work-dir',
        tmp_path,
        *options(shapes),
        'model.backbone.dpeth=3',
        check=False,
    )
    assert "unexpected keyword argument 'dpeth'" in output


def test_pretrained_start_by_an_option(shapes, tmp_path):
    """The README's way to name the ImageNet weights; here a ViT as small."""
    from mmpretrain.models import VisionTransformer

    vit = VisionTransformer(
        dict(embed_dims=16, num_layers=3, num_heads=4, feedforward_channels=384),
        img_size=96,
        patch_size=8,
    )
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    output = run(
        sys.executable,
        ROOT / 'tools/train.py',
        CONFIG,
        '--work-dir',
        tmp_path / 'run',
        *options(shapes, 1),
        f'model.pretrained={tmp_path}/vit.pth',
    )
    assert f'Pretrained ViT {tmp_path}/vit.pth' in output
    checkpoint = torch.load(tmp_path / 'run' / 'iter_1.pth', weights_only=False)
    # one iteration of warm-up moves the weights by 1e-6 of the learning rate
    torch.testing.assert_close(
        checkpoint['state_dict']['backbone.layers.1.attn.qkv.weight'],
        vit.layers[1].attn.qkv.weight.detach(),
        rtol=0,
        atol=1e-6,
    )
