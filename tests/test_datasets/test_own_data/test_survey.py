"""A folder of files of every kind, and the page about it."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mmseg_more.datasets.own_data import find_all, look_at_image, make_survey, survey_page

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def photos(tmp_path):
    """Images of several kinds, and labels of most."""
    folder = tmp_path / 'photos'
    (folder / 'sub').mkdir(parents=True)
    image = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / 'turned.jpg', exif=exif)
    image.save(folder / 'sub' / 'plain.webp')
    cv2.imwrite(str(folder / 'deep.png'), PIXELS.astype(np.uint16) * 16)
    image.putalpha(Image.fromarray(PIXELS[..., 0]))
    image.save(folder / 'clear.png')
    (folder / 'broken.jpg').write_bytes((folder / 'turned.jpg').read_bytes()[:200])
    (folder / 'empty.png').touch()
    (folder / 'notes.txt').touch()
    Image.new('RGB', (60, 40), 'red').save(folder / 'blank.bmp')
    return folder


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / 'labels.csv'
    path.write_text(
        'image,labels\nturned,cat\nplain.webp,dog;cat\ndeep,dog\nclear,\nbroken,owl\nx,cat\n'
    )
    return path


def test_facts(photos):
    seen = {name: look_at_image(str(photos), name) for name in (
        'turned.jpg', 'sub/plain.webp', 'deep.png', 'clear.png', 'blank.bmp'
    )}  # fmt: skip
    assert seen['turned.jpg'].size == (60, 40) and seen['turned.jpg'].is_turned
    assert seen['sub/plain.webp'].image_id == 'sub/plain'
    assert seen['deep.png'].bits == 16 and seen['turned.jpg'].bits == 8
    assert seen['clear.png'].is_transparent and not seen['deep.png'].is_transparent
    assert seen['blank.bmp'].is_blank and not seen['deep.png'].is_blank
    assert len({facts.digest for facts in seen.values()}) == 5


def test_opaque_alpha_is_not_transparent(photos):
    image = Image.fromarray(PIXELS)
    image.putalpha(255)
    image.save(photos / 'opaque.png')
    opaque = look_at_image(str(photos), 'opaque.png')
    assert not opaque.is_transparent
    Image.fromarray(PIXELS).save(photos / 'same.bmp')  # equal pictures, other files
    assert opaque.digest == look_at_image(str(photos), 'same.bmp').digest


def test_band_of_a_tiff_that_is_no_opacity(photos):
    image = Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]), 'RGBX')
    image.save(photos / 'infrared.tif')
    seen = look_at_image(str(photos), 'infrared.tif')
    assert not seen.is_transparent
    Image.fromarray(PIXELS).save(photos / 'same.bmp')
    assert seen.digest == look_at_image(str(photos), 'same.bmp').digest


def test_survey(photos, labels):
    survey = make_survey(photos, labels, show_progress=False)
    assert survey.usable() == {
        'clear': [],
        'deep': ['dog'],
        'sub/plain': ['dog', 'cat'],
        'turned': ['cat'],
    }
    assert survey.classes() == ['cat', 'dog']  # the owl cannot be read
    assert survey.unlabelled == ['blank', 'empty'] and survey.orphans == ['x']
    problems = {image.path: image.problem for image in survey.images if not image.size}
    assert problems['empty.png'] == 'empty' and 'no image' in problems['broken.jpg']


def test_page(photos, labels):
    survey = make_survey(photos, labels, show_progress=False)
    page = survey_page(survey, find_all(survey))
    assert page.startswith(f"7 images in {photos}; labels: CSV, names, delimiter ','")
    assert '4 can be trained on, 1 of them without any class' in page
    assert 'types: 3 png, 2 jpg, 1 bmp, 1 webp' in page
    assert 'smallest 40 x 40, median 40 x 60, largest 60 x 60' in page
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in page.splitlines()]
    assert ['cat', '2', '1', '2'] in rows and ['dog', '2', '1', '2'] in rows
    assert ['cat', '', '1'] in rows and ['dog', '1', ''] in rows
    assert 'error: 2 images that cannot be read' in page


def test_page_of_many_classes(photos, tmp_path):
    path = tmp_path / 'labels.csv'
    path.write_text('turned,' + ';'.join(f'c{i:02d}' for i in range(12)) + '\n')
    survey = make_survey(photos, path, show_progress=False)
    assert 'most often together: c00 + c01 1, ' in survey_page(survey, [])
    assert survey_page(survey, []).endswith('Nothing stands out.')


def test_folders_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match='none does not exist'):
        make_survey(tmp_path / 'none', 'folders')
    with pytest.raises(ValueError, match='holds no image'):
        make_survey(tmp_path, 'folders')
