"""Each export is read back: by a decoder of the test's own, and by the tool's where it is.

The tools' readers are in requirements/annotation.txt.
"""

import base64
import csv
import io
import json
import os
import zipfile
import zlib
from urllib.parse import unquote
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmseg_more.annotation import FORMATS, MaskSource, export_masks

CLASSES = ['background', 'a horse', 'Käse <&"', 'rare']
LABELS = {name: label for label, name in enumerate(CLASSES)} | {'ignored': 255}
SUFFIXES = {name: export.suffix for name, export in FORMATS.items()}


@pytest.fixture
def export(folder, tmp_path):
    def export(tool, prefix=None):
        out = tmp_path / f'out{SUFFIXES[tool]}'
        export_masks(MaskSource(folder, prefix=prefix), tool, out)
        return out

    return export


def check(found, truth):
    assert sorted(found) == sorted(truth)
    for name, labels in truth.items():
        np.testing.assert_array_equal(found[name], labels, name)


def tool_reader(name):
    return pytest.importorskip(
        name,
        reason=f'no {name}: pip install -r requirements/annotation.txt',
        exc_type=ImportError,  # also where a library of the system is missing
    )


# ------------------------------------------------------------------------------------ COCO
def test_coco(export, truth, order):
    coco = COCO(str(export('coco')))
    found = {}
    for image in coco.dataset['images']:
        labels = np.zeros((image['height'], image['width']), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
            pixels = coco.annToMask(annotation)
            assert annotation['area'] == pixels.sum()
            labels[pixels > 0] = annotation['category_id']
            assert annotation.get('score') == (
                None if annotation['category_id'] == 255 else 0.75
            )
        found[image['file_name'].removesuffix('.jpg')] = labels
    check(found, truth)
    assert list(found) == order
    assert {c['name']: c['id'] for c in coco.dataset['categories']} == {
        name: label for name, label in LABELS.items() if label
    }
    assert coco.dataset['images'][0]['score'] == 0.2
    assert 'score' not in coco.dataset['images'][-1]


# ------------------------------------------------------------------------------------ CVAT
def test_cvat(export, truth, order):
    with zipfile.ZipFile(export('cvat')) as archive:
        lines = archive.read('labelmap.txt').decode().splitlines()
        colors = {}
        for line in lines[1:]:
            name, color, _, _ = line.split(':')
            colors[tuple(map(int, color.split(',')))] = LABELS[name]
        assert len(colors) == len(LABELS)
        listed = archive.read('ImageSets/Segmentation/default.txt').decode().splitlines()
        assert listed == order
        found = {}
        for name in listed:
            content = archive.read(f'SegmentationClass/{name}.png')
            pixels = np.asarray(Image.open(io.BytesIO(content)))
            labels = np.array([[colors[tuple(p)] for p in row] for row in pixels.tolist()])
            found[name] = labels
    check(found, truth)


def test_cvat_by_datumaro(export, truth, tmp_path):
    tool_reader('datumaro.plugins.data_formats.voc.base')
    from datumaro.plugins.data_formats.voc.base import VocSegmentationBase

    with zipfile.ZipFile(export('cvat')) as archive:
        archive.extractall(tmp_path / 'voc')
    subset = tmp_path / 'voc/ImageSets/Segmentation/default.txt'
    dataset = VocSegmentationBase(str(subset))
    names = [category.name for category in next(iter(dataset.categories().values()))]
    found = {}
    for item in dataset:
        labels = np.zeros_like(truth[item.id])
        for annotation in item.annotations:
            labels[annotation.image > 0] = LABELS[names[annotation.label]]
        found[item.id] = labels
    check(found, truth)


def test_cvat_refuses_names_that_its_map_cannot_hold(folder, tmp_path):
    path = folder / 'manifest.json'
    path.write_text(path.read_text().replace('"rare"', '"no:name"'))
    with pytest.raises(ValueError, match="class 'no:name' cannot stand in a labelmap"):
        export_masks(MaskSource(folder), 'cvat', tmp_path / 'out.zip')
    assert not (tmp_path / 'out.zip').exists()


# ---------------------------------------------------------------------------- Label Studio
def brush_pixels(runs, shape):
    """Decode Label Studio's run lengths, by their description."""
    bits = ''.join(f'{byte:08b}' for byte in runs)
    at = 0

    def read(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < count:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        if repeated:
            values += [read(word)] * length
        else:
            values += [read(word) for _ in range(length)]
    channels = np.array(values).reshape(*shape, 4)
    assert (channels == channels[..., :1]).all()
    return channels[..., 3] > 0


def decoded_tasks(folder, decode):
    found = {}
    for task in json.loads((folder / 'tasks.json').read_text()):
        labels = None
        for result in task['predictions'][0]['result']:
            shape = result['original_height'], result['original_width']
            if labels is None:
                labels = np.zeros(shape, np.uint8)
            (name,) = result['value']['brushlabels']
            labels[decode(result['value']['rle'], shape)] = LABELS[name]
        found[task['data']['name']] = labels
    assert found['nothing'] is None
    return {name: labels for name, labels in found.items() if labels is not None}


def test_label_studio(export, truth, order):
    out = export('labelstudio')
    del truth['nothing']
    check(decoded_tasks(out, brush_pixels), truth)
    tasks = json.loads((out / 'tasks.json').read_text())
    assert [task['data']['name'] for task in tasks] == order
    assert unquote(tasks[2]['data']['image']).endswith('?d=roof/rings 1.jpg')
    assert tasks[0]['predictions'][0]['score'] == 0.2
    root = ElementTree.parse(out / 'labels.xml').getroot()
    assert [label.get('value') for label in root.iter('Label')] == list(LABELS)[1:]


def test_label_studio_by_its_sdk(export, truth):
    tool_reader('label_studio_sdk.converter.brush')
    from label_studio_sdk.converter.brush import decode_rle

    def decode(runs, shape):
        return decode_rle(runs).reshape(*shape, 4)[..., 3] > 0

    del truth['nothing']
    check(decoded_tasks(export('labelstudio'), decode), truth)


def test_runs_longer_than_a_length_can_say():
    from mmseg_more.annotation.label_studio import brush_runs

    pixels = np.ones((300, 400), bool)
    pixels[150, 200] = False
    np.testing.assert_array_equal(brush_pixels(brush_runs(pixels), pixels.shape), pixels)


# --------------------------------------------------------------------------------- labelme
def test_labelme(export, truth, order):
    out = export('labelme')
    found = {}
    for path in out.rglob('*.json'):
        content = json.loads(path.read_text())
        labels = np.zeros((content['imageHeight'], content['imageWidth']), np.uint8)
        for shape in content['shapes']:
            (left, top), (right, bottom) = shape['points']
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape['mask']))))
            inside = labels[top : bottom + 1, left : right + 1]
            inside[pixels > 0] = LABELS[shape['label']]
        name = path.relative_to(out).with_suffix('').as_posix()
        assert content['imagePath'] == f'{name.split("/")[-1]}.jpg'
        found[name] = labels
    check(found, truth)
    rows = list(csv.DictReader((out / 'order.csv').open(encoding='utf-8')))
    assert [row['image'].removesuffix('.jpg') for row in rows] == order
    assert [row['score'] for row in rows] == ['0.2', '0.5', '0.7', '0.9', '']


def test_labelme_by_its_own_utils(export, truth):
    tool_reader('labelme._label_file')
    from labelme._label_file import _load_shape_json_obj
    from labelme.utils.shape import shapes_to_label

    out, found = export('labelme'), {}
    for path in out.rglob('*.json'):
        content = json.loads(path.read_text())
        shapes = [_load_shape_json_obj(shape) for shape in content['shapes']]
        size = content['imageHeight'], content['imageWidth']
        name = path.relative_to(out).with_suffix('').as_posix()
        found[name] = shapes_to_label(size, shapes, LABELS)[0]
    check(found, truth)


# ------------------------------------------------------------------------------------ YOLO
@pytest.mark.parametrize('to_pixel', [np.trunc, np.round])
def test_yolo(export, truth, to_pixel):
    out = export('yolo')
    truth['ignored'][truth['ignored'] == 255] = 0  # as docs/annotation.md says
    found = {}
    for name, labels in truth.items():
        drawn = np.zeros_like(labels)
        for line in (out / 'labels' / f'{name}.txt').read_text().splitlines():
            index, *shares = line.split()
            assert len(shares) >= 6
            size = np.array(labels.shape[::-1], np.float32)
            polygon = np.array(shares, np.float32).reshape(-1, 2) * size
            part = np.zeros_like(labels)
            cv2.fillPoly(part, [to_pixel(polygon).astype(np.int32)], 1)
            assert not drawn[part > 0].any()
            drawn[part > 0] = int(index) + 1
        found[name] = drawn
    check(found, truth)
    assert (out / 'labels/nothing.txt').read_text() == ''


def test_yolo_names(export):
    yaml = pytest.importorskip('yaml')
    names = yaml.safe_load((export('yolo') / 'data.yaml').read_text())['names']
    assert names == dict(enumerate(CLASSES[1:]))


# -------------------------------------------------------------------------------- FiftyOne
def read_samples(folder, samples):
    """As its importer does: absolute path, mask by zlib and numpy."""
    targets = json.loads((folder / 'metadata.json').read_text())['info']['mask_targets']
    by_name = {name: int(label) for label, name in targets['prediction'].items()}
    assert by_name == LABELS
    return {
        sample['filepath'].removeprefix('data/').removesuffix('.jpg'): np.load(
            io.BytesIO(zlib.decompress(sample['prediction']['mask']))
        )
        for sample in samples
    }


def test_fiftyone(export, truth, order):
    out = export('fiftyone')
    samples = json.loads((out / 'samples.json').read_text())['samples']
    for sample in samples:
        packed = sample['prediction']['mask']['$binary']['base64']
        sample['prediction']['mask'] = base64.b64decode(packed)
    found = read_samples(out, samples)
    check(found, truth)
    assert list(found) == order
    assert samples[0]['score'] == 0.2
    scores = samples[0]['class_scores']['classifications']
    assert {score['label']: score['confidence'] for score in scores} == {
        'a horse': 0.75,
        'rare': 0.75,
    }


def test_fiftyone_by_bson(export, truth):
    bson = tool_reader('bson.json_util')
    out = export('fiftyone')
    check(
        read_samples(out, bson.loads((out / 'samples.json').read_text())['samples']), truth
    )


# ------------------------------------------------------------------------------------- all
@pytest.mark.parametrize('tool', FORMATS)
def test_nothing_is_overwritten_and_nothing_half_written(folder, tmp_path, tool):
    out = tmp_path / 'results' / f'out{SUFFIXES[tool]}'
    export_masks(MaskSource(folder), tool, out)
    with pytest.raises(FileExistsError, match='give another name, or delete it'):
        export_masks(MaskSource(folder), tool, out)
    # the last mask, so that the others are written by then
    (folder / 'ignored.png').write_bytes(b'')
    other = tmp_path / 'others' / f'out{SUFFIXES[tool]}'
    with pytest.raises(ValueError, match='has changed'):
        export_masks(MaskSource(folder), tool, other)
    assert not other.parent.exists() or not list(other.parent.iterdir())


@pytest.mark.parametrize(
    'tool, file',
    [
        ('coco', ''),
        ('labelstudio', 'tasks.json'),
        ('labelme', 'caf\udce9.json'),
        ('fiftyone', 'samples.json'),
        ('yolo', 'order.csv'),
    ],
)
def test_names_that_are_not_utf_8(folder, tmp_path, tool, file):
    """caf\\xe9.png, as an old zip unpacks."""
    os.rename(folder / 'single.png', os.fsencode(folder) + b'/caf\xe9.png')
    manifest = folder / 'manifest.json'
    manifest.write_text(manifest.read_text().replace('single', 'caf\\udce9'))
    out = tmp_path / f'out{SUFFIXES[tool]}'
    export_masks(MaskSource(folder), tool, out)
    text = (out / file).read_bytes().decode()
    assert r'caf\udce9' in text
    if tool == 'labelstudio':
        assert 'caf%E9.jpg' in text
    if tool != 'yolo':
        json.loads(text)


def test_wrong_suffix_and_unknown_tool(folder, tmp_path):
    with pytest.raises(ValueError, match='the file for coco ends in .json'):
        export_masks(MaskSource(folder), 'coco', tmp_path / 'out.zip')
    with pytest.raises(ValueError, match='tool must be one of coco, cvat'):
        export_masks(MaskSource(folder), 'paint', tmp_path / 'out')


@pytest.mark.parametrize('tool', ['coco', 'labelme', 'labelstudio', 'fiftyone'])
def test_prefix(export, tool):
    out = export(tool, prefix='s3://bucket/')
    files = [out] if out.is_file() else list(out.rglob('*.json'))
    assert any('s3://bucket/single.jpg' in path.read_text() for path in files)
