"""Outlines of pixels as polygons, from which the same pixels can be filled again."""

from typing import Dict, List, Tuple

import cv2
import numpy as np

Point = Tuple[int, int]


def outlines(pixels: np.ndarray) -> List[np.ndarray]:
    """One polygon for each connected part, its holes included.

    A hole is reached from the outline, or from another hole, along a horizontal cut that is
    walked both ways and runs through pixels of the part. ``cv2.fillPoly`` gives back
    exactly the pixels of the part.

    Args:
        pixels: Boolean ``(H, W)``.

    Returns:
        For each part (of 8-connected pixels) the int ``(N, 2)`` columns and rows of its
        corners, ``N >= 3``; a part of one or two pixels repeats its points.
    """
    contours, hierarchy = cv2.findContours(
        pixels.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    polygons = []
    for index, outer in enumerate(contours):
        following, _, child, parent = hierarchy[0][index]
        if parent >= 0:
            continue
        path = _points(outer)
        holes = []
        while child >= 0:
            holes.append(_points(contours[child]))
            child = hierarchy[0][child][0]
        # a cut to the left ends at what begins further left, which is then in the path
        for hole in sorted(holes, key=min):
            path = _with_hole(path, hole, pixels)
        polygons.append(_corners(path))
    return polygons


def _points(contour: np.ndarray) -> List[Point]:
    return [(int(x), int(y)) for x, y in contour[:, 0]]


def _with_hole(path: List[Point], hole: List[Point], pixels: np.ndarray) -> List[Point]:
    """The path with a cut to a hole, round it, and back."""
    # the leftmost pixels round a hole: left of them the part goes on, or ends
    column, row = min(hole)
    end = column
    while end > 0 and pixels[row, end - 1]:
        end -= 1
    where: Dict[Point, int] = {point: index for index, point in enumerate(path)}
    place = where[(end, row)]
    start = hole.index((column, row))
    around = [*hole[start:], *hole[:start], hole[start]]
    return [*path[: place + 1], *around, *path[place:]]


def _corners(path: List[Point]) -> np.ndarray:
    """The points at which a closed path turns."""
    points = np.array(path)
    steps = np.sign(np.roll(points, -1, axis=0) - points)
    before = np.roll(steps, 1, axis=0)
    # a long diagonal is a straight line of pixels only at 45 degrees, as neighbours are
    turns = points[np.any(steps != before, axis=1)]
    if len(turns) == 0:
        turns = points[:1]
    return np.concatenate([turns, np.repeat(turns[-1:], max(0, 3 - len(turns)), axis=0)])
