"""Exports are imported again, pixel for pixel; what is wrong in a file is one error."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmseg_more.annotation import (
    FORMATS,
    READERS,
    ImportSettings,
    MaskSource,
    drawn_shapes,
    export_masks,
    import_masks,
)
from mmseg_more.annotation.drawn_shapes import polygon_pixels
from mmseg_more.annotation.label_studio import brush_pixels, brush_runs
from mmseg_more.files import palette_png, png

CLASSES = ['a horse', 'Käse <&"', 'rare']
PAIR = ['cat', 'dog']


def read_back(folder, name):
    return np.asarray(Image.open(folder / f'{name}.png'))


def check(folder, truth):
    content = json.loads((folder / 'masks.json').read_text(encoding='utf-8'))
    assert content['masks'] == {name: f'{name}.png' for name in content['masks']}
    assert sorted(content['masks']) == sorted(truth)
    for name, labels in truth.items():
        np.testing.assert_array_equal(read_back(folder, name), labels, name)
    return content['classes']


@pytest.fixture
def photos(truth, tmp_path):
    """Images of the sizes of the masks."""
    for name, labels in truth.items():
        path = tmp_path / 'photos' / f'{name}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', labels.shape[::-1]).save(path)
    return tmp_path / 'photos'


@pytest.fixture
def exported(folder, tmp_path):
    """An export of a tool, of the masks of the fixture."""

    def exported(tool, prefix=None):
        if tool == 'voc':
            (folder / 'manifest.json').unlink()
            return folder
        out = tmp_path / f'exported{FORMATS[tool].suffix}'
        export_masks(MaskSource(folder, prefix=prefix), tool, out)
        if tool != 'labelstudio':
            return out
        tasks = json.loads((out / 'tasks.json').read_text())
        for task in tasks:  # as a person who accepts every prediction
            task['annotations'] = task.pop('predictions')
        (out / 'tasks.json').write_text(json.dumps(tasks))
        return out / 'tasks.json'

    return exported


@pytest.fixture
def run(tmp_path):
    """Import a file into ``tmp_path / 'out'``; what is left behind by a failure fails."""
    out = tmp_path / 'results' / 'out'

    def run(path, tool, classes=PAIR, **kwargs):
        chosen = {key: kwargs.pop(key, None) for key in ('labelled', 'listed')}
        try:
            import_masks(path, tool, out, ImportSettings(classes, **kwargs), **chosen)
        except Exception:
            assert not out.parent.exists() or not list(out.parent.iterdir())
            raise
        return out

    return run


def failure(run, path, tool, message, error=ValueError, **kwargs):
    with pytest.raises(error, match=message) as raised:
        run(path, tool, **kwargs)
    assert '\n' not in str(raised.value)


# ------------------------------------------------------------------------------ all formats
@pytest.mark.parametrize('tool', READERS)
def test_the_same_pixels_come_back(exported, run, photos, truth, tool):
    out = run(exported(tool), tool, CLASSES, images=photos)
    assert check(out, truth) == ['background', *CLASSES]
    assert Image.open(out / 'single.png').mode == 'P'


@pytest.mark.parametrize('tool', READERS)
def test_pixels_that_nothing_covers_may_be_left_open(exported, run, photos, truth, tool):
    out = run(exported(tool), tool, CLASSES, images=photos, uncovered=255)
    check(out, {name: np.where(m == 0, 255, m) for name, m in truth.items()})


@pytest.mark.parametrize('tool', READERS)
def test_an_unknown_class(exported, run, photos, tool):
    message = 'has label 3, the 2 classes' if tool == 'voc' else "unknown class 'rare'"
    failure(run, exported(tool), tool, message, classes=CLASSES[:2], images=photos)


@pytest.mark.parametrize('tool', READERS)
def test_a_mask_of_another_size_than_its_image(exported, run, photos, tool):
    Image.new('RGB', (31, 39)).save(photos / 'größe.jpg')
    message = "'größe' has 40x31 pixels, its image 39x31"
    failure(run, exported(tool), tool, message, classes=CLASSES, images=photos)


@pytest.mark.parametrize('tool', READERS)
def test_an_image_that_is_not_there_or_has_no_labels(exported, run, photos, truth, tool):
    path = exported(tool)
    message = r"'single' has no image labels; the labels are of 'größe'"
    known = dict.fromkeys(sorted(set(truth) - {'single'}))
    failure(run, path, tool, message, classes=CLASSES, images=photos, labelled=known)
    (photos / 'single.jpg').unlink()
    message = "'single' is not among the 4 in the folder of the images"
    failure(run, path, tool, message, classes=CLASSES, images=photos)


@pytest.mark.parametrize('tool', READERS)
def test_files_that_are_not_there_or_cut_off(exported, run, tmp_path, tool):
    failure(run, tmp_path / 'none', tool, 'does not exist', FileNotFoundError)
    path = exported(tool)
    cut = path / 'single.png' if tool == 'voc' else path
    cut.write_bytes(cut.read_bytes()[:-40])
    failure(run, path, tool, 'is no whole|is not valid JSON', classes=CLASSES)


def test_only_the_images_of_a_list(exported, run, truth):
    path = exported('voc')
    failure(
        run,
        path,
        'voc',
        "no masks of 1 images of the list: 'none'",
        classes=CLASSES,
        listed=['none', 'single'],
    )
    check(run(path, 'voc', CLASSES, listed=['single']), {'single': truth['single']})


def test_nothing_is_overwritten(exported, tmp_path):
    path, out = exported('voc'), tmp_path / 'out'
    out.mkdir()
    (out / 'masks.json').write_text('mine')
    with pytest.raises(FileExistsError, match='give another name, or delete it'):
        import_masks(path, 'voc', out, ImportSettings(CLASSES))
    assert (out / 'masks.json').read_text() == 'mine'


@pytest.mark.parametrize('tool', ['coco', 'labelstudio'])
def test_prefixes(exported, run, photos, truth, tool):
    path = exported(tool, prefix='s3://bucket/')
    if tool == 'labelstudio':  # from the path of the image then
        tasks = json.loads(path.read_text())
        for task in tasks:
            del task['data']['name']
        path.write_text(json.dumps(tasks))
    check(run(path, tool, CLASSES, images=photos, prefix='s3://bucket/'), truth)


def test_classes_that_cannot_be(tmp_path):
    for classes in ([], ['background', 'cat'], ['cat', 'ignored'], ['cat', 'cat']):
        with pytest.raises(ValueError, match='classes are names without'):
            ImportSettings(classes)
    with pytest.raises(FileNotFoundError, match='the folder of images'):
        ImportSettings(['cat'], images=tmp_path / 'none')
    with pytest.raises(ValueError, match='tool must be one of voc, coco'):
        import_masks(tmp_path, 'paint', tmp_path / 'out', ImportSettings(['cat']))


# ------------------------------------------------------------------------------------- VOC
def test_voc_layout(run, tmp_path):
    folder = tmp_path / 'voc' / 'SegmentationClass'
    folder.mkdir(parents=True)
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    (folder / 'a.png').write_bytes(palette_png(labels, [[0, 0, 0]]))
    (folder / '.hidden.png').write_bytes(b'')
    check(run(tmp_path / 'voc', 'voc'), {'a': labels})


def test_voc_pictures_and_empty_folders(run, tmp_path):
    failure(run, tmp_path, 'voc', 'holds no mask that somebody has annotated')
    (tmp_path / 'a.png').write_bytes(png(np.zeros((2, 2, 3), np.uint8)))
    failure(run, tmp_path, 'voc', r'a.png is a picture \(RGB\), not a PNG of labels')


# ------------------------------------------------------------------------------------ COCO
def coco(path, annotations, **image):
    content = dict(
        images=[dict(id=7, file_name='roof/a.jpg', height=4, width=6, **image)],
        categories=[dict(id=3, name='dog'), dict(id=9, name='cat')],
        annotations=[
            dict(id=i, image_id=7, iscrowd=0) | entry for i, entry in enumerate(annotations)
        ],
    )
    path.write_text(json.dumps(content))
    return path


def test_coco_objects_over_each_other(run, tmp_path):
    large = dict(category_id=3, segmentation=[[0, 0, 4, 0, 4, 4, 0, 4]])
    small = dict(category_id=9, segmentation=dict(size=[4, 6], counts=[5, 2, 17]))
    crowd = dict(
        category_id=9, iscrowd=1, segmentation=dict(size=[4, 6], counts=[12, 8, 4])
    )
    path = coco(tmp_path / 'a.json', [small, large, crowd])
    expected = np.zeros((4, 6), np.uint8)
    expected[:, 3:5] = 255  # the crowd, beneath all objects
    expected[:, :4] = 2
    expected[1:3, 1] = 1  # the smaller one, although it comes first
    check(run(path, 'coco'), {'roof/a': expected})


def test_coco_hostile(run, tmp_path):
    region = dict(category_id=3, segmentation=dict(size=[4, 6], counts=[0, 24]))
    path = coco(tmp_path / 'a.json', [region])
    good = path.read_text()
    for old, new, message in (
        ('roof/a.jpg', '../a.jpg', r"the name '\.\./a.jpg'"),
        ('roof/a.jpg', 'b/../../a.jpg', 'does not lie below a folder of images'),
        ('roof/a.jpg', '/a.jpg', 'does not lie below a folder of images'),
        ('"counts": [0, 24]', '"counts": [0, 23]', 'runs of 23 pixels'),
        ('"image_id": 7', '"image_id": 8', 'no image 8'),
        ('"height": 4', '"height": 400000000', r'a region of \[4, 6\]'),
    ):
        path.write_text(good.replace(old, new))
        failure(run, path, 'coco', message)
    empty = dict(id=8, file_name='b.jpg', height=1 << 20, width=1 << 20)
    content = json.loads(good)
    content['images'].append(empty)
    path.write_text(json.dumps(content))
    failure(run, path, 'coco', 'a mask of 1048576x1048576 pixels')
    content['images'][1].update(file_name='roof/a.jpg', height=1)
    path.write_text(json.dumps(content))
    failure(run, path, 'coco', "more than one image of a name: 'roof/a'")


# ------------------------------------------------------------------------------------ CVAT
def test_cvat_folder(exported, run, truth, tmp_path):
    shutil.unpack_archive(exported('cvat'), tmp_path / 'unpacked')
    check(run(tmp_path / 'unpacked', 'cvat', CLASSES), truth)


@pytest.mark.parametrize(
    ('labelmap', 'message'),
    [
        (None, 'holds no labelmap.txt: export the task from CVAT'),
        (
            'cat:1,2,3::\n',
            r'has the colour \(9, 9, 9\), of which labelmap.txt says nothing',
        ),
        ('cat:9,9,9::\ndog:9,9,9::', "'cat' and 'dog' have one colour"),
        ('cat\n', "expected NAME:RED,GREEN,BLUE::, got 'cat'"),
        ('cow:9,9,9::', "SegmentationClass/a.png: unknown class 'cow'"),
    ],
)
def test_cvat_hostile(run, tmp_path, labelmap, message):
    path = tmp_path / 'a.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        if labelmap is not None:
            archive.writestr('labelmap.txt', labelmap)
        archive.writestr('SegmentationClass/a.png', png(np.full((2, 2, 3), 9, np.uint8)))
    failure(run, path, 'cvat', message)


def test_cvat_names_that_lead_out_of_the_folder(run, tmp_path):
    path = tmp_path / 'a.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('labelmap.txt', '')
        content = png(np.zeros((2, 2, 3), np.uint8))
        archive.writestr('SegmentationClass/../../a.png', content)
    failure(run, path, 'cvat', "'../../a' does not lie below a folder")


def test_cvat_members_that_are_too_large(exported, run, monkeypatch):
    monkeypatch.setattr('mmseg_more.annotation.cvat.MAX_PIXELS', 90)
    failure(run, exported('cvat'), 'cvat', 'too large for a mask', classes=CLASSES)


def test_cvat_content_that_is_damaged(exported, run):
    path = exported('cvat')
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo('SegmentationClass/größe.png').header_offset
    content = bytearray(path.read_bytes())
    content[at + 200 : at + 220] = bytes(20)
    path.write_bytes(bytes(content))
    failure(run, path, 'cvat', 'größe.png: cannot be read', classes=CLASSES)


# ---------------------------------------------------------------------------- Label Studio
def stroke(pixels, name, **kwargs):
    height, width = pixels.shape
    value = dict(format='rle', rle=list(brush_runs(pixels)), brushlabels=[name])
    size = dict(original_width=width, original_height=height)
    return dict(type='brushlabels', value=value, **size, **kwargs)


def tasks(path, *annotations, image='/data/local-files/?d=roof/a%201.jpg'):
    content = [dict(id=1, data=dict(photo=image), annotations=list(annotations))]
    path.write_text(json.dumps(content))
    return path


def box(rows, columns, shape=(5, 7)):
    pixels = np.zeros(shape, bool)
    pixels[rows, columns] = True
    return pixels


LEFT, RIGHT = box(slice(None), slice(0, 4)), box(slice(None), slice(3, 7))


def test_label_studio_latest_annotation_that_was_not_cancelled(run, tmp_path):
    path = tasks(
        tmp_path / 'a.json',
        dict(id=1, updated_at='2026-01-02T00:00:00Z', result=[stroke(LEFT, 'cat')]),
        dict(
            id=2,
            updated_at='2026-01-05T00:00:00Z',
            result=[
                dict(type='choices', value=dict(choices=['fine'])),
                stroke(LEFT, 'dog'),
                stroke(RIGHT, 'cat'),
            ],
        ),
        dict(
            id=3,
            updated_at='2026-01-09T00:00:00Z',
            was_cancelled=True,
            result=[stroke(RIGHT, 'dog')],
        ),
        dict(id=4, updated_at='2026-01-03T00:00:00Z', result=[stroke(RIGHT, 'dog')]),
    )
    expected = np.where(RIGHT, 1, 2)  # the later region lies on top
    check(run(path, 'labelstudio'), {'roof/a 1': expected})


def test_label_studio_uploads_and_tasks_without_annotation(run, tmp_path):
    path = tasks(
        tmp_path / 'a.json',
        dict(id=1, result=[stroke(LEFT, 'cat')]),
        image='/data/upload/12/0123abcd-a.png',
    )
    content = json.loads(path.read_text())
    cancelled = [dict(id=2, was_cancelled=True, result=[stroke(LEFT, 'dog')])]
    content.append(dict(data=dict(image='b.jpg'), annotations=cancelled))
    content.append(dict(data=dict(image='c.jpg'), annotations=[], predictions=[]))
    path.write_text(json.dumps(content))
    settings = ImportSettings(PAIR)
    imported = import_masks(path, 'labelstudio', tmp_path / 'out', settings)
    assert imported == (['a'], ['b', 'c'])
    check(tmp_path / 'out', {'a': LEFT.astype(np.uint8)})


def test_label_studio_annotations_without_regions_need_the_images(run, tmp_path):
    path = tasks(tmp_path / 'a.json', dict(id=1, result=[]))
    failure(run, path, 'labelstudio', r"size of the image 'roof/a 1' .* \(--images\)")


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(original_width=8), 'they are of 35 pixels, the image has 5x8 pixels'),
        (dict(original_width=10**9), 'a mask of 5x1000000000 pixels'),
        (dict(original_width='7'), 'is not as Label Studio exports it: TypeError'),
        (dict(image_rotation=90), 'of another size, or turned'),
        (dict(value=dict(rle=[0, 0], brushlabels=['cat'])), 'in the middle'),
        (dict(value=dict(rle=10**10, brushlabels=['cat'])), 'TypeError'),
        (dict(value=dict(rle=[300], brushlabels=['cat'])), 'run lengths that cannot'),
        (dict(value=dict(rle=[0], brushlabels=[])), 'a region of 0 classes'),
        (dict(value={}), "KeyError 'brushlabels'"),
    ],
)
def test_label_studio_hostile(run, tmp_path, change, message):
    result = stroke(LEFT, 'cat') | change
    path = tasks(tmp_path / 'a.json', dict(id=1, result=[result]))
    failure(run, path, 'labelstudio', message)


def drawn(kind, name='cat', size=(20, 30), **value):
    """A region that is drawn by its outline, in percent of the image's sides."""
    value[f'{kind}labels'] = [name]
    shape = dict(original_width=size[1], original_height=size[0])
    return dict(type=f'{kind}labels', value=value, **shape)


def test_label_studio_shapes_that_are_drawn(run, tmp_path):
    """A pixel belongs to a shape that its centre lies in, and to the later of two."""
    triangle = [[0, 0], [100, 0], [0, 100]]
    path = tasks(
        tmp_path / 'a.json',
        dict(
            id=1,
            result=[
                drawn('polygon', 'cat', points=triangle, closed=True),
                drawn('rectangle', 'dog', x=50, y=50, width=20, height=25, rotation=0),
                drawn('ellipse', 'cat', x=60, y=60, radiusX=10, radiusY=5),
            ],
        ),
    )
    rows, columns = np.arange(20)[:, None] + 0.5, np.arange(30) + 0.5
    expected = np.where(columns / 30 + rows / 20 < 1, 1, 0)
    expected[10:15, 15:21] = 2
    expected[((columns - 18) / 3) ** 2 + (rows - 12) ** 2 <= 1] = 1
    check(run(path, 'labelstudio'), {'roof/a 1': expected})


@pytest.mark.parametrize('turned', [0, 30, 90, -45, 400])
def test_label_studio_shapes_that_are_turned(run, tmp_path, turned):
    """Clockwise: a rectangle around its upper left corner, an ellipse around its centre."""
    path = tasks(
        tmp_path / 'a.json',
        dict(
            id=1,
            result=[
                drawn('rectangle', x=40, y=30, width=40, height=20, rotation=turned),
                drawn('ellipse', 'dog', x=40, y=30, radiusX=20, radiusY=8, rotation=turned),
            ],
        ),
    )
    rows, columns = np.arange(20)[:, None] + 0.5, np.arange(30) + 0.5
    turn = np.exp(-1j * np.radians(turned))  # back: a complex plane with rows downwards
    back = (columns - 12 + 1j * (rows - 6)) * turn
    inside = (back.real > 0) & (back.real < 12) & (back.imag > 0) & (back.imag < 4)
    expected = inside.astype(int)
    expected[(back.real / 6) ** 2 + (back.imag / 1.6) ** 2 <= 1] = 2
    check(run(path, 'labelstudio'), {'roof/a 1': expected})


def test_label_studio_shapes_across_the_border(run, tmp_path):
    path = tasks(
        tmp_path / 'a.json',
        dict(
            id=1,
            result=[
                drawn('rectangle', x=-50, y=75, width=80, height=900),
                drawn('rectangle', 'dog', x=120, y=0, width=10, height=10),
                drawn('ellipse', 'dog', x=50, y=50, radiusX=0, radiusY=10),
            ],
        ),
    )
    expected = np.zeros((20, 30), int)
    expected[15:, :9] = 1
    check(run(path, 'labelstudio'), {'roof/a 1': expected})


def test_a_large_polygon_is_filled_in_parts(monkeypatch):
    corners = np.array([[1, 2], [37.5, 4], [20, 33.3], [4, 30]])
    whole = polygon_pixels(corners, (40, 38))
    assert 500 < whole.sum() < 40 * 38
    monkeypatch.setattr(drawn_shapes, '_POINTS_AT_ONCE', 80)
    np.testing.assert_array_equal(polygon_pixels(corners, (40, 38)), whole)


def test_label_studio_classes_beside_their_regions(run, tmp_path):
    """By ``<Labels>`` with ``<Rectangle>``, a region and its class are two results."""
    value = dict(x=0, y=0, width=40, height=100)
    size = dict(original_width=7, original_height=5)
    bare = dict(id='r', type='rectangle', value=value, **size)
    named = dict(id='r', type='labels', value=value | dict(labels=['dog']), **size)
    path = tasks(tmp_path / 'a.json', dict(id=1, result=[bare, named]))
    check(run(path, 'labelstudio'), {'roof/a 1': box(slice(None), slice(0, 3)) * 2})
    shutil.rmtree(tmp_path / 'results')
    tasks(path, dict(id=1, result=[bare]))
    failure(run, path, 'labelstudio', "'roof/a 1'. has a rectangle without a class")


TRIANGLE = [[0, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ('region', 'message'),
    [
        (drawn('keypoint', x=1, y=2, width=3), "kind 'keypointlabels': only brush strokes"),
        (drawn('vector', vertices=[], closed=True), "of the kind 'vectorlabels'"),
        (drawn('bitmask', imageDataURL='data:'), "of the kind 'bitmasklabels'"),
        (drawn('polygon', points=TRIANGLE, closed=False), "of the kind 'polygonlabels'"),
        (drawn('polygon', points=TRIANGLE[:2]), 'a polygon of 2 points'),
        (drawn('polygon', points=[[0, 0], [1], [0, 1]]), r'a region at \[\[0, 0\], \[1\]'),
        (drawn('polygon', points=[[0, 0], [1, 'a'], [0, 1]]), 'a region at'),
        (drawn('polygon', points=[*TRIANGLE, [float('nan'), 1]]), 'a region at'),
        (drawn('rectangle', x=1, y=2, width=1e9, height=3), 'a region at'),
        (drawn('ellipse', x=1, y=None, radiusX=1, radiusY=1), 'a region at'),
        (drawn('ellipse', x=1, y=1, radiusX=1, radiusY=1, rotation='a'), 'a region at a'),
        (drawn('polygon', 'rat', points=TRIANGLE), "unknown class 'rat'"),
    ],
)
def test_label_studio_hostile_shapes(run, tmp_path, region, message):
    path = tasks(tmp_path / 'a.json', dict(id=1, result=[region]))
    failure(run, path, 'labelstudio', message)


def test_label_studio_other_files(run, tmp_path):
    path = tmp_path / 'a.json'
    for content, message in (
        ({}, 'is no list of tasks'),
        ([dict(image='a.jpg')], 'KeyError \'data\'; export as "JSON", not "JSON-MIN"'),
        ([dict(data=dict(text='a'), annotations=[])], 'names no image'),
        ([], 'holds no mask'),
    ):
        path.write_text(json.dumps(content))
        failure(run, path, 'labelstudio', message)
    tasks(path, dict(id=1, result=[stroke(LEFT, 'cat')]))
    path.write_text(json.dumps(json.loads(path.read_text()) * 2))
    failure(run, path, 'labelstudio', "has the image 'roof/a 1' twice")


def test_brush_of_runs_and_of_single_values():
    """Values one by one, as Label Studio writes them where colours change at each pixel."""
    noise = np.random.default_rng(0).random((30, 40)) < 0.5
    np.testing.assert_array_equal(brush_pixels(brush_runs(noise), (30, 40)), noise)
    lengths = ''.join(f'{size - 1:04b}' for size in (3, 4, 8, 16))
    opacities = [0, 127, 128, 255]
    values = ''.join(
        f'{value:08b}' for opacity in opacities for value in [9, 9, 9, opacity]
    )
    bits = f'{16:032b}{7:05b}{lengths}' + '0' + '01' + f'{15:04b}' + values
    bits += '0' * (-len(bits) % 8)
    runs = int(bits, 2).to_bytes(len(bits) // 8, 'big')
    assert brush_pixels(runs, (2, 2)).tolist() == [[False, False], [True, True]]
