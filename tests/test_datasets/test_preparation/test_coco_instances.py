import json
import sys

import pycocotools.mask as mask_utils
import pytest
from hypothesis import given
from hypothesis import strategies as st

from field_datasets import COCO_ANNOTATIONS, COCO_IDS, COCO_SIZE, coco_instances, coco_name
from mmseg_more.datasets.preparation.coco14 import CLASSES
from mmseg_more.datasets.preparation.coco_instances import decompress_counts, read_instances


@pytest.fixture
def read(tmp_path):

    def read(content):
        path = tmp_path / 'instances_val2014.json'
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text)
        return read_instances(path, CLASSES)

    return read


def test_images_and_regions(read):
    images = read(coco_instances())
    assert [image.name for image in images] == [coco_name(i) for i in COCO_IDS]
    assert {image.size for image in images} == {COCO_SIZE}
    assert [len(image.regions) for image in images] == [3, 1, 1, 1, 0]
    # 1..80 in the order of the classes, not COCO's ids
    assert [region.label for region in images[0].regions] == [80, 1, 3]
    assert [region.is_crowd for region in images[0].regions] == [False, False, True]
    assert images[0].regions[0].polygons[0].tolist() == [2, 2, 4, 2, 4, 4, 2, 4]
    assert images[0].regions[2].counts.tolist() == [80, 120]
    # what has no area is left out
    assert [len(polygon) for polygon in images[2].regions[0].polygons] == [8, 8]


def test_parts_in_any_order(read):
    """Categories come last in COCO's files, but need not."""
    content = coco_instances()
    turned = dict(reversed(list(dict(content, info={'images': [1]}).items())))
    assert read(turned) == read(content)


def compress(counts):
    """The compressed form, from its description in the COCO API."""
    text = ''
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != -1 if group & 16 else value != 0
            text += chr((group | 32 if more else group) + 48)
    return text


@given(st.lists(st.integers(0, 10**6)))
def test_compressed_counts(counts):
    assert decompress_counts(compress(counts)) == counts


def test_compressed_counts_of_pycocotools():
    counts = [3, 40, 1, 1000, 7, 5, 944]
    packed = mask_utils.frPyObjects(dict(counts=counts, size=[40, 50]), 40, 50)
    assert decompress_counts(packed['counts'].decode()) == counts


def test_compressed_region(read):
    size = list(COCO_SIZE)
    region = dict(counts=compress([80, 120]), size=size)
    images = read(coco_instances([dict(COCO_ANNOTATIONS[2], segmentation=region)]))
    assert images[0].regions[0].counts.tolist() == [80, 120]


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(image_id=7), 'annotation 0: no image 7, or no category 1'),
        (dict(category_id=2), 'annotation 0: no image 42, or no category 2'),
        (dict(segmentation=[[1, 1, 2, 2, 3]]), 'a polygon of 5 numbers, not of pairs'),
        (dict(segmentation=[[1, 1, 1e9, 2, 3, 3]]), 'leaves its image of .* by far'),
        (dict(segmentation=[[1, 1, -1e9, 2, 3, 3]]), 'leaves its image of .* by far'),
        (dict(segmentation=[['a', 'b']]), 'is not a COCO instances file: TypeError'),
        (dict(segmentation=3), 'is not a COCO instances file: TypeError'),
        (
            dict(segmentation=dict(counts=[80, 119], size=list(COCO_SIZE))),
            'annotation 0: runs of 199 pixels, its image has 200',
        ),
        (
            dict(segmentation=dict(counts=[-1, 201], size=list(COCO_SIZE))),
            'annotation 0: runs of 200 pixels',
        ),
        (
            dict(segmentation=dict(counts='oooo', size=list(COCO_SIZE))),
            'annotation 0: runs of 0 pixels',
        ),
        (
            dict(segmentation=dict(counts=[200], size=[20, 10])),
            r'a region of \[20, 10\], its image is \(10, 20\)',
        ),
    ],
)
def test_malformed_annotation(read, change, message):
    entry = dict(dict(image_id=42, category_id=1, segmentation=[]), **change)
    with pytest.raises(ValueError, match=f'instances_val2014.json.*{message}'):
        read(coco_instances([entry]))


@pytest.mark.parametrize(
    'content, message',
    [
        ('{"images": [', 'is not valid JSON'),
        ('[]', "has no list 'categories'"),
        ({'images': [], 'categories': {}}, "has no list 'categories'"),
        (coco_instances(images=3), "has no list 'images'"),
        (coco_instances([]), 'has no annotations: give instances_val2014.json'),
        (coco_instances(categories=[dict(id=1, name='persom')]), "did you mean 'person'"),
        (coco_instances(categories=[3]), 'is not a COCO instances file: TypeError'),
        (coco_instances(images=[dict(id=1)]), "instances file: KeyError 'file_name'"),
    ],
)
def test_malformed_file(read, content, message):
    with pytest.raises(ValueError, match=f'instances_val2014.json.*{message}'):
        read(content)


@pytest.mark.parametrize(
    'changes, message',
    [
        ([dict(height=0)], r'image 42: a size of \(0, 20\)'),
        ([dict(height=10.0)], r'image 42: a size of \(10.0, 20\)'),
        ([dict(file_name='..')], "image 42: the name '..'"),
        ([dict(file_name='x/.hidden.jpg')], 'image 42: the name'),
        ([{}, dict(file_name=f'x/{coco_name(42)}.png')], 'more than one image of a name'),
    ],
)
def test_malformed_image(read, changes, message):
    content = coco_instances()
    for image, change in zip(content['images'], changes):
        image.update(change)
    with pytest.raises(ValueError, match=message):
        read(content)


def test_ijson_is_missing(read, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ijson', None)
    with pytest.raises(ImportError, match=r'ijson: pip install "mmseg_more\[coco\]"'):
        read(coco_instances())
