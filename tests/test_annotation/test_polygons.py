import cv2
import numpy as np
import pytest

from mmseg_more.annotation import outlines


def filled(polygons, shape):
    pixels = np.zeros(shape, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(pixels, [polygon.astype(np.int32)], 1)
    return pixels.astype(bool)


@pytest.mark.parametrize('share', [0.2, 0.5, 0.8, 0.95, 1])
@pytest.mark.parametrize('scale', [1, 3])
def test_the_same_pixels_come_back(share, scale):
    rng = np.random.default_rng(0)
    for _ in range(100):
        pixels = rng.random(rng.integers(1, 20, 2)) < share
        pixels = pixels.repeat(scale, 0).repeat(scale, 1)
        np.testing.assert_array_equal(filled(outlines(pixels), pixels.shape), pixels)


def test_a_part_with_holes_is_one_polygon():
    pixels = np.ones((9, 20), bool)
    pixels[2:4, 3:5] = pixels[4:7, 8:11] = pixels[3, 14] = False
    polygons = outlines(pixels)
    assert len(polygons) == 1
    np.testing.assert_array_equal(filled(polygons, pixels.shape), pixels)


def test_a_rectangle_has_four_corners():
    pixels = np.zeros((9, 9), bool)
    pixels[2:5, 3:8] = True
    assert sorted(map(tuple, outlines(pixels)[0].tolist())) == [
        (3, 2),
        (3, 4),
        (7, 2),
        (7, 4),
    ]


def test_a_pixel_has_three_points_and_no_pixel_none():
    pixels = np.zeros((3, 3), bool)
    assert outlines(pixels) == []
    pixels[1, 2] = True
    assert outlines(pixels)[0].tolist() == [[2, 1]] * 3
