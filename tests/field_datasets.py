"""Small trees in the layouts in which the field's data sets are unpacked."""

import json

import numpy as np
from PIL import Image
from scipy.io import savemat

VOC_SIZE = (12, 16)
VOC_LABELS = {
    # (class, is difficult) of the objects
    '2007_000001': [('cat', 0), ('cat', 0)],
    '2007_000002': [('dog', 1), ('cat', 0)],
    '2007_000003': [('person', 1)],
    '2008_000004': [],
    '2008_000005': [('tvmonitor', 0)],
}
VOC_SPLITS = dict(train=['2007_000001'], val=['2007_000002'])
SBD_LABELS = {
    '2007_000001': 1,  # VOC has masks of the first two
    '2007_000002': 1,
    '2007_000003': 15,
    '2008_000005': 20,
}


def write_voc(root):
    """VOC 2012 of five images, two of which have masks."""
    for folder in ('JPEGImages', 'Annotations', 'SegmentationClass'):
        (root / folder).mkdir(parents=True)
    for image_id, objects in VOC_LABELS.items():
        image = Image.new('RGB', VOC_SIZE[::-1], (90, 120, 30))
        image.save(root / 'JPEGImages' / f'{image_id}.jpg')
        (root / 'Annotations' / f'{image_id}.xml').write_text(
            '<annotation>'
            + ''.join(
                f'<object><name>{name}</name><difficult>{difficult}</difficult></object>'
                for name, difficult in objects
            )
            + '</annotation>'
        )
    splits = root / 'ImageSets' / 'Segmentation'
    splits.mkdir(parents=True)
    for name, ids in VOC_SPLITS.items():
        (splits / f'{name}.txt').write_text('\n'.join(ids) + '\n')
        for image_id in ids:
            mask = Image.fromarray(np.full(VOC_SIZE, 8, np.uint8))
            mask.putpalette([value // 3 for value in range(768)])
            mask.save(root / 'SegmentationClass' / f'{image_id}.png')
    return root


def write_sbd(root, labels=SBD_LABELS, size=VOC_SIZE):
    """SBD: masks that show one class everywhere."""
    folder = root / 'dataset' / 'cls'
    folder.mkdir(parents=True)
    for image_id, label in labels.items():
        mask = np.full(size, label, np.uint8)
        savemat(folder / f'{image_id}.mat', dict(GTcls=dict(Segmentation=mask)))
    return root


def rectangle(left, top, right, bottom):
    """The outline of a rectangle that covers whole pixels."""
    return [left, top, right, top, right, bottom, left, bottom]


COCO_SIZE = (10, 20)
# COCO's ids have gaps: 90 is the 80th class
COCO_CATEGORIES = [dict(id=1, name='person'), dict(id=3, name='car')] + [
    dict(id=90, name='toothbrush')
]
COCO_ANNOTATIONS = [
    # a small object, listed before the large one that it lies on
    dict(image_id=42, category_id=90, segmentation=[rectangle(2, 2, 4, 4)]),
    dict(image_id=42, category_id=1, segmentation=[rectangle(0, 0, 10, 10)]),
    # a crowd of the right half, runs along the columns
    dict(
        image_id=42,
        category_id=3,
        segmentation=dict(counts=[80, 120], size=list(COCO_SIZE)),
        iscrowd=1,
    ),
    dict(image_id=74, category_id=3, segmentation=[rectangle(0, 0, 5, 5)]),
    # two parts, and one of two points, which has no area
    dict(
        image_id=133,
        category_id=3,
        segmentation=[rectangle(0, 0, 2, 2), rectangle(8, 8, 10, 10), [1, 1, 5, 5]],
    ),
    dict(image_id=136, category_id=1, segmentation=[rectangle(0, 0, 2, 2)]),
]
COCO_IDS = (42, 74, 133, 136, 139)  # the last one has no annotation


def coco_name(number):
    return f'COCO_val2014_{number:012d}'


def coco_instances(annotations=None, **parts):
    """The content of an instances file."""
    height, width = COCO_SIZE
    annotations = COCO_ANNOTATIONS if annotations is None else annotations
    content = dict(
        images=[
            dict(id=i, file_name=f'{coco_name(i)}.jpg', height=height, width=width)
            for i in COCO_IDS
        ],
        annotations=[
            dict(dict(id=number, iscrowd=0), **entry)
            for number, entry in enumerate(annotations)
        ],
        categories=COCO_CATEGORIES,
    )
    return dict(content, **parts)


def write_coco(root):
    """COCO 2014 of five validation images: gray, cut off, and without annotation too.

    Returns:
        Path: Of the instances file.
    """
    (root / 'annotations').mkdir(parents=True)
    (root / 'val2014').mkdir()
    for number in COCO_IDS:
        pixels = np.random.default_rng(number).integers(0, 256, (*COCO_SIZE, 3), np.uint8)
        image = Image.fromarray(pixels)
        image = image.convert('L') if number == 74 else image
        image.save(root / 'val2014' / f'{coco_name(number)}.jpg', quality=95)
    path = root / 'annotations' / 'instances_val2014.json'
    path.write_text(json.dumps(coco_instances()))
    return path


def cut_off(path):
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
