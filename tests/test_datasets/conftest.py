"""A VOC folder of three images: one class, two classes, none."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

LABELS = {'a': ['cat'], 'b': ['dog', 'cat'], 'c': []}


def write_voc(root, labels=LABELS, size=(40, 50)):
    for folder in (
        'JPEGImages',
        'SegmentationClass',
        'Annotations',
        'ImageSets/Segmentation',
    ):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for image_id, names in labels.items():
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'JPEGImages' / f'{image_id}.jpg'), image)
        mask = np.zeros(size, np.uint8)
        mask[:5] = 255
        for row, name in enumerate(names, start=1):
            mask[5 * row : 5 * row + 5] = {'cat': 8, 'dog': 12}[name]
        png = Image.fromarray(mask)
        png.putpalette([value // 3 for value in range(768)])
        png.save(root / 'SegmentationClass' / f'{image_id}.png')
        objects = ''.join(
            f'<object><name>{name}</name><difficult>1</difficult><part><name>head</name>'
            '</part></object>'
            for name in names
        )
        (root / 'Annotations' / f'{image_id}.xml').write_text(
            f'<annotation>{objects}</annotation>'
        )
    for split in ('train', 'val'):
        (root / 'ImageSets' / 'Segmentation' / f'{split}.txt').write_text(
            '\n'.join(labels) + '\n'
        )
    (root / 'labels.json').write_text(json.dumps(labels))
    return root


@pytest.fixture
def voc_root(tmp_path):
    return write_voc(tmp_path / 'voc')
