"""A tiny MoRe of the shipped VOC config, with random weights."""

import copy

import torch
from mmengine.config import Config

from golden import ROOT, data_samples

from mmseg.registry import MODELS


def tiny_config(**overrides):
    cfg = Config.fromfile(ROOT / 'configs/more/more_vit-b_voc.py').model
    cfg = copy.deepcopy(cfg)
    cfg.num_classes = cfg.backbone.num_classes = 3
    cfg.backbone.arch = dict(
        embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32
    )
    cfg.backbone.img_size, cfg.backbone.patch_size = 64, 8
    cfg.graph.embed_dims = 16
    cfg.decode_head.update(in_channels=16, channels=16, num_classes=4)
    cfg.localization.scales = (1.0, 0.5)
    cfg.pseudo_label.par = dict(dilations=(1, 2), num_iters=2)
    for name, value in overrides.items():
        cfg[name] = value
    return cfg


def tiny_model(iteration=0, **overrides):
    torch.manual_seed(0)
    model = MODELS.build(tiny_config(**overrides))
    model.init_weights()
    model.iteration = iteration
    return model


def batch(*labels, size=(64, 64)):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(labels), 3, *size), generator=generator)
    preprocessor = tiny_model().data_preprocessor
    return (
        (images - preprocessor.mean) / preprocessor.std,
        data_samples(torch.tensor(labels)),
    )
