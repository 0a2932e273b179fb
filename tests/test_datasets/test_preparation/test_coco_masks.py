import sys
from array import array

import numpy as np
import pycocotools.mask as mask_utils
import pytest

from field_datasets import rectangle
from mmseg_more.datasets.preparation.coco_instances import Region
from mmseg_more.datasets.preparation.coco_masks import draw_mask, region_pixels

SIZE = (10, 20)


def outlined(label, *corners, is_crowd=False):
    """A region of rectangles ``left, top, right, bottom``."""
    polygons = tuple(array('d', rectangle(*corner)) for corner in corners)
    return Region(label, is_crowd, polygons, None)


def runs(label, counts, is_crowd=True):
    return Region(label, is_crowd, (), array('q', counts))


def test_what_a_region_covers():
    inside = region_pixels(outlined(1, (2, 3, 6, 5), (10, 0, 12, 2)), SIZE)
    expected = np.zeros(SIZE, bool)
    expected[3:5, 2:6] = expected[0:2, 10:12] = True
    np.testing.assert_array_equal(inside, expected)
    # columns one after the other, first what is outside
    inside = region_pixels(runs(1, [3, 2, 190, 5]), SIZE)
    expected = np.zeros(SIZE, bool)
    expected[3:5, 0] = expected[5:, 19] = True
    np.testing.assert_array_equal(inside, expected)
    assert not region_pixels(Region(1, False, (), None), SIZE).any()


def test_runs_are_those_of_pycocotools():
    counts = [3, 2, 0, 7, 188]
    packed = mask_utils.frPyObjects(dict(counts=counts, size=list(SIZE)), *SIZE)
    np.testing.assert_array_equal(
        region_pixels(runs(1, counts), SIZE), mask_utils.decode(packed).astype(bool)
    )


@pytest.mark.parametrize('turned', [False, True])
def test_smaller_objects_lie_on_larger_ones(turned):
    regions = [outlined(7, (2, 2, 4, 4)), outlined(5, (0, 0, 10, 10))]
    mask = draw_mask(SIZE, regions[::-1] if turned else regions)
    assert mask.dtype == np.uint8 and mask.shape == SIZE
    expected = np.zeros(SIZE, np.uint8)
    expected[:, :10] = 5
    expected[2:4, 2:4] = 7
    np.testing.assert_array_equal(mask, expected)


def test_of_equal_objects_the_later_one_is_seen():
    regions = [outlined(1, (0, 0, 4, 4)), outlined(2, (2, 0, 6, 4))]
    assert draw_mask(SIZE, regions)[0, :7].tolist() == [1, 1, 2, 2, 2, 2, 0]
    assert draw_mask(SIZE, regions[::-1])[0, :7].tolist() == [1, 1, 1, 1, 2, 2, 0]


@pytest.mark.parametrize('crowd, value', [('ignore', 255), ('class', 9)])
def test_crowds_lie_beneath_objects_of_any_size(crowd, value):
    regions = [
        outlined(3, (0, 0, 20, 5)),
        runs(9, [80, 20, 100]),  # smaller than the object
    ]
    mask = draw_mask(SIZE, regions, crowd)
    assert mask[0].tolist() == [3] * 20
    assert mask[9].tolist() == [0] * 8 + [value] * 2 + [0] * 10


def test_nothing_is_background():
    assert not draw_mask(SIZE, []).any()
    with pytest.raises(ValueError, match="crowd must be one of .*'all'"):
        draw_mask(SIZE, [], 'all')


def test_pycocotools_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    monkeypatch.setitem(sys.modules, 'pycocotools.mask', None)
    with pytest.raises(ImportError, match=r'pycocotools: pip install "mmseg_more\[coco\]"'):
        region_pixels(outlined(1, (0, 0, 1, 1)), SIZE)
