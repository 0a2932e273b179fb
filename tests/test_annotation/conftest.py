"""A folder of masks with all that makes exports difficult."""

import hashlib
import json

import numpy as np
import pytest

from mmseg_more.files import palette_png

CLASSES = ['background', 'a horse', 'Käse <&"', 'rare']
PALETTE = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 0, 0]]  # one colour twice


def masks():
    """Labels by name: a hole in a hole, single pixels, ignored ones, noise, none."""
    rings = np.zeros((17, 23), np.uint8)
    rings[1:16, 1:20] = 1
    rings[3:14, 3:18] = 0
    rings[5:12, 5:16] = 1
    rings[7, 7] = 2
    rings[9:11, 9] = 0
    single = np.zeros((1, 5), np.uint8)
    single[0, 2:4] = 1
    single[0, 0] = 3
    noise = np.random.default_rng(0).integers(0, 4, (40, 31)).astype(np.uint8)
    ignored = np.full((8, 6), 2, np.uint8)
    ignored[2:5, 1:4] = 255
    return {
        'roof/rings 1': rings,
        'single': single,
        'größe': noise,
        'ignored': ignored,
        'nothing': np.zeros((9, 4), np.uint8),
    }


SCORES = {'roof/rings 1': 0.7, 'single': 0.2, 'größe': 0.5, 'nothing': 0.9}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'masks'
    images = {}
    for name, labels in masks().items():
        content = palette_png(labels, PALETTE)
        path = root / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        present = [CLASSES[label] for label in np.unique(labels) if label != 255]
        noted = dict(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        images[name] = dict(
            size=list(labels.shape),
            classes=present,
            confidence=dict.fromkeys(present, 0.75),
            files=dict(mask=noted),
        )
        if name in SCORES:
            images[name]['image_confidence'] = SCORES[name]
    manifest = dict(
        settings={},
        checkpoint={},
        classes=CLASSES,
        palette=PALETTE,
        images=images,
        failed={},
    )
    (root / 'manifest.json').write_text(json.dumps(manifest))
    return root


@pytest.fixture
def truth():
    return masks()


@pytest.fixture
def order():
    return ['single', 'größe', 'roof/rings 1', 'nothing', 'ignored']
