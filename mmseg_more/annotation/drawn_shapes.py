"""Pixels of polygons, rectangles and ellipses: those whose centres lie inside."""

import math
from typing import Tuple

import numpy as np
from matplotlib.path import Path as Outline

_POINTS_AT_ONCE = 1 << 20


def polygon_pixels(corners: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Boolean ``(H, W)``: the pixels whose centres lie in a closed polygon.

    Args:
        corners: Columns and rows ``(N, 2)`` of its corners, ``N >= 3``, in pixels from the
            upper left corner of the image. What lies outside of the image is cut off.
        size: ``(H, W)``.
    """
    pixels = np.zeros(size, bool)
    left, top = np.clip(np.floor(corners.min(0)), 0, size[::-1]).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)), 0, size[::-1]).astype(int)
    if left >= right or top >= bottom:
        return pixels
    outline = Outline(corners, closed=False)
    columns = np.arange(left, right) + 0.5
    rows_at_once = max(1, _POINTS_AT_ONCE // len(columns))
    for first in range(top, bottom, rows_at_once):
        last = min(first + rows_at_once, bottom)
        x, y = np.meshgrid(columns, np.arange(first, last) + 0.5)
        inside = outline.contains_points(np.stack([x, y], -1).reshape(-1, 2))
        pixels[first:last, left:right] = inside.reshape(x.shape)
    return pixels


def rectangle_corners(corner: np.ndarray, sides: np.ndarray, degrees: float) -> np.ndarray:
    """The four corners ``(4, 2)`` of a rectangle that is turned around its first one.

    Args:
        corner: Column and row of its upper left corner, in pixels.
        sides: Width and height.
        degrees: How far it is turned, clockwise.
    """
    along, down = _turned(degrees)
    width, height = sides[0] * along, sides[1] * down
    return np.stack([0 * width, width, width + height, height]) + corner


def ellipse_pixels(
    centre: np.ndarray, radii: np.ndarray, degrees: float, size: Tuple[int, int]
) -> np.ndarray:
    """Boolean ``(H, W)``: the pixels whose centres lie in an ellipse.

    Args:
        centre: Column and row, in pixels.
        radii: Along its own two axes, in pixels.
        degrees: How far it is turned around its centre, clockwise.
        size: ``(H, W)``.
    """
    if min(radii) <= 0:
        return np.zeros(size, bool)
    x = np.arange(size[1]) + 0.5 - centre[0]
    y = np.arange(size[0])[:, None] + 0.5 - centre[1]
    along, down = _turned(degrees)
    first = (x * along[0] + y * along[1]) / radii[0]
    second = (x * down[0] + y * down[1]) / radii[1]
    return first**2 + second**2 <= 1


def _turned(degrees: float) -> Tuple[np.ndarray, np.ndarray]:
    """Unit vectors to the right and down, turned clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([cos, sin]), np.array([-sin, cos])
