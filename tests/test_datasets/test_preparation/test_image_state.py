import numpy as np
import pytest
from PIL import Image

from field_datasets import cut_off
from mmseg_more.datasets.preparation.image_state import check_image

SIZE = (30, 50)


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8))


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_whole_images(picture, tmp_path, suffix):
    for mode, is_gray in (('RGB', False), ('L', True)):
        path = tmp_path / f'{mode}.{suffix}'
        picture.convert(mode).save(path)
        assert check_image(path, SIZE) == (None, is_gray)


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_broken_images(picture, tmp_path, suffix):
    path = tmp_path / f'a.{suffix}'
    picture.save(path)
    cut_off(path)
    assert 'is broken' in check_image(path, SIZE).problem
    for content in (b'', b'no image'):
        path.write_bytes(content)
        assert 'is broken' in check_image(path, SIZE).problem
    path.unlink()
    assert check_image(path, SIZE).problem == f'{path} does not exist'


def test_another_size(picture, tmp_path):
    picture.save(tmp_path / 'a.jpg')
    problem = check_image(tmp_path / 'a.jpg', SIZE[::-1]).problem
    assert 'a.jpg has 30x50 pixels, its annotation says 50x30' in problem
