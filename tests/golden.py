"""Access to the reference figures in tests/data.

They are compared on a CPU; ``MMSEG_MORE_TEST_DEVICE=cuda`` does it on a GPU.
"""

import json
import os
from pathlib import Path
from typing import Dict

import numpy as np
import torch
from mmengine.config import Config

from mmseg_more.checkpoints import convert_official

from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / 'tests' / 'data'
DEVICE = torch.device(os.environ.get('MMSEG_MORE_TEST_DEVICE', 'cpu'))
if DEVICE.type == 'cuda':
    torch.backends.cudnn.allow_tf32 = False  # PyTorch's default rounds convolutions to 1e-3
MEAN = torch.tensor([123.675, 116.28, 103.53], device=DEVICE).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375], device=DEVICE).view(3, 1, 1)

# reference name -> name in this package
LOSS_NAMES = dict(
    cls='cls',
    cls_aux='cls_aux',
    token='mct',
    ptc='ptc',
    cle='cre',
    une='ure',
    seg='seg',
    reg='energy',
)


class Golden:
    """One file of reference figures; items come as tensors on ``DEVICE``."""

    def __init__(self, name: str) -> None:
        self._file = np.load(DATA / f'{name}.npz')

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self._file[key].copy()).to(DEVICE)

    def keys(self):
        return self._file.files

    @property
    def meta(self) -> dict:
        return json.loads(str(self._file['meta']))

    def group(self, prefix: str) -> Dict[str, torch.Tensor]:
        return {k[len(prefix) :]: self[k] for k in self.keys() if k.startswith(prefix)}


def normalize(image_u8: torch.Tensor) -> torch.Tensor:
    return (image_u8.float() - MEAN) / STD


def model_config(meta: dict) -> Config:
    """The shipped config, shrunk to the sizes of a reference file."""
    mode = meta.get('mode', 'voc')
    cfg = Config.fromfile(ROOT / f'configs/more/more_vit-b_{mode}.py')
    dims, classes = meta['dim'], meta['K']
    cfg.merge_from_dict(
        {
            'model.num_classes': classes,
            'model.backbone.num_classes': classes,
            'model.backbone.img_size': meta['pos_img_size'],
            'model.backbone.patch_size': meta['patch'],
            'model.graph.embed_dims': dims,
            'model.decode_head.in_channels': dims,
            'model.decode_head.channels': meta['decoder_mid'],
            'model.decode_head.num_classes': classes + 1,
        }
    )
    cfg.model.backbone.arch = dict(
        embed_dims=dims,
        num_layers=meta['depth'],
        num_heads=meta['heads'],
        feedforward_channels=4 * dims,
    )
    return cfg


def build_model(golden: Golden, cfg: Config = None):
    cfg = cfg or model_config(golden.meta)
    model = MODELS.build(cfg.model)
    model.load_state_dict(convert_official(golden.group('sd.')), strict=True)
    return model.to(DEVICE)


def data_samples(labels: torch.Tensor):
    samples = []
    for label in labels.float():
        sample = SegDataSample()
        sample.gt_score = label
        sample.gt_label = label.nonzero().flatten()
        samples.append(sample)
    return samples
