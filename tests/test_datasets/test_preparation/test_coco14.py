import json

import numpy as np
import pytest
from PIL import Image

from field_datasets import (
    COCO_IDS,
    COCO_SIZE,
    coco_instances,
    coco_name,
    cut_off,
    write_coco,
)
from mmseg_more.datasets.preparation import coco14
from mmseg_more.datasets.preparation.coco14 import (
    CLASSES,
    DrawnImage,
    draw_masks,
    drawing_report,
    open_mask_folder,
    spread_part,
    usable_images,
)
from mmseg_more.datasets.preparation.coco_instances import read_instances
from mmseg_more.datasets.preparation.image_state import ImageState


@pytest.fixture
def instances(tmp_path):
    return write_coco(tmp_path / 'coco2014')


@pytest.fixture
def images(instances):
    return read_instances(instances, CLASSES)


@pytest.mark.parametrize('num_workers', [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_mask_of_every_image(images, tmp_path, num_workers):
    drawn = draw_masks(images, tmp_path / 'masks', num_workers=num_workers)
    names = [coco_name(number) for number in COCO_IDS]
    assert [image.name for image in drawn] == names
    assert all(image.is_new and image.state is None for image in drawn)
    masks = [Image.open(tmp_path / 'masks' / f'{name}.png') for name in names]
    assert {(mask.mode, mask.size) for mask in masks} == {('P', COCO_SIZE[::-1])}
    values = [np.unique(np.asarray(mask)).tolist() for mask in masks]
    assert values == [[1, 80, 255], [0, 3], [0, 3], [0, 1], [0]]


def test_goes_on_where_it_stopped(images, tmp_path):
    folder = tmp_path / 'masks'
    draw_masks(images[:2], folder)
    (folder / f'{coco_name(74)}.png').write_bytes(b'')  # the machine went down
    before = (folder / f'{coco_name(42)}.png').stat().st_mtime_ns
    drawn = draw_masks(images, folder)
    assert [image.is_new for image in drawn] == [False, True, True, True, True]
    assert (folder / f'{coco_name(42)}.png').stat().st_mtime_ns == before


def test_image_files_are_looked_at(images, instances, tmp_path):
    folder = instances.parent.parent / 'val2014'
    cut_off(folder / f'{coco_name(133)}.jpg')
    (folder / f'{coco_name(136)}.jpg').unlink()
    drawn = draw_masks(images, tmp_path / 'masks', folder)
    assert [image.state.is_gray for image in drawn] == [False, True, False, False, False]
    problems = [image.state.problem for image in drawn]
    assert problems[0] is problems[1] is problems[4] is None
    assert 'is broken' in problems[2] and 'does not exist' in problems[3]
    # their masks are drawn nevertheless
    assert len(list((tmp_path / 'masks').glob('*.png'))) == 5
    # of the others the last one has no annotation
    assert usable_images(drawn) == [coco_name(42), coco_name(74)]
    report = '\n'.join(drawing_report(drawn, 'val2014'))
    assert '5 masks, 5 of them drawn now, 40504 expected' in report
    assert '4 images of any class, 40137 expected; 1 without annotation' in report
    assert '1 gray images: kept' in report and '; 2 broken, missing' in report


def test_numbers_as_expected():
    drawn = [DrawnImage(str(number), number > 366, False, None) for number in range(40504)]
    report = drawing_report(drawn, 'val2014')
    assert report[0] == '40504 masks, 0 of them drawn now, as expected'
    assert report[1].startswith('40137 images of any class, as expected; 367 without')
    assert len(report) == 2  # nobody looked at image files
    assert 'expected' not in '\n'.join(drawing_report(drawn, 'mine'))
    states = [image._replace(state=ImageState(None)) for image in drawn]
    assert drawing_report(states, 'val2014')[2].startswith('0 gray images')


def test_part_of_a_list():
    names = [str(number) for number in range(40137)]
    part = spread_part(names)
    assert len(part) == len(set(part)) == 5000
    steps = np.diff(np.array(part, int))
    assert part[0] == '0' and set(steps) == {8, 9}
    assert spread_part(names[:3]) == names[:3]


def test_masks_of_other_settings_are_kept_apart(instances, tmp_path, monkeypatch):
    folder = tmp_path / 'masks'
    open_mask_folder(folder, instances, 'ignore')
    open_mask_folder(folder, instances, 'ignore')
    before = (folder / 'settings.json').read_bytes()
    with pytest.raises(ValueError, match=r'masks of other settings \(crowd\): choose'):
        open_mask_folder(folder, instances, 'class')
    instances.write_text(json.dumps(coco_instances(images=[])))
    with pytest.raises(ValueError, match=r'settings \(instances_sha256\)'):
        open_mask_folder(folder, instances, 'ignore')
    monkeypatch.setattr(coco14, '_DRAWING_VERSION', 2)
    with pytest.raises(ValueError, match=r'\(drawing_version, instances_sha256\)'):
        open_mask_folder(folder, instances, 'ignore')
    assert (folder / 'settings.json').read_bytes() == before
    for damaged in ('{', '[]'):
        (folder / 'settings.json').write_text(damaged)
        with pytest.raises(ValueError, match=r'settings \(a damaged file\)'):
            open_mask_folder(folder, instances, 'ignore')


def test_masks_of_other_origin_are_not_added_to(instances, tmp_path):
    (tmp_path / 'a.png').touch()
    with pytest.raises(ValueError, match='masks that were not drawn here'):
        open_mask_folder(tmp_path, instances, 'ignore')
    assert not (tmp_path / 'settings.json').exists()
