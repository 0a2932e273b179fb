"""A tiny EncoderDecoder of MMSegmentation with MoReViT, with random weights."""

import copy

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

NUM_LABELS = 4
CONFIG = ConfigDict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(64, 64),
    ),
    backbone=dict(
        type='MoReViT',
        arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
        img_size=64,
        patch_size=8,
        num_classes=NUM_LABELS - 1,
        out_indices=-1,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=16,
        in_index=-1,
        channels=8,
        num_convs=1,
        num_classes=NUM_LABELS,
        norm_cfg=dict(type='BN'),
        dropout_ratio=0.0,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)


def config(**overrides):
    cfg = copy.deepcopy(CONFIG)
    cfg.decode_head.update(overrides.pop('decode_head', {}))
    for name, value in overrides.items():
        cfg[name] = value
    return cfg


def build(**overrides):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config(**overrides))
    model.init_weights()
    return model


def batch(count=2, size=(64, 64)):
    """Images in 0..255 and masks with a row of 255, as a data loader gives them."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(count):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        labels = torch.randint(0, NUM_LABELS, (1, *size), generator=generator)
        labels[:, :8] = 255
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    images = torch.randint(
        0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8
    )
    return dict(inputs=list(images), data_samples=samples)
