"""One mask from the regions of COCO's annotations."""

from typing import Any, List, Sequence, Tuple

import numpy as np

from ...localization.pseudo_label import IGNORE_INDEX
from .coco_instances import Region

CROWD_MODES = ('ignore', 'class')


def draw_mask(
    size: Tuple[int, int],
    regions: Sequence[Region],
    crowd: str = 'ignore',
    uncovered: int = 0,
) -> np.ndarray:
    """Paint regions over each other: first the crowds, then the objects, the smallest last.

    Of two of the same area the later one in the file lies on top.

    Args:
        size: ``(H, W)`` in pixels.
        regions: Of one image.
        crowd: What a crowd is painted with: ``'ignore'``, 255, since nobody has told its
            members apart from what lies between them; ``'class'``, its label.
        uncovered: What is painted where there is no region.

    Returns:
        Labels ``(H, W)`` uint8.

    Raises:
        ValueError: If ``crowd`` is neither.
        ImportError: If pycocotools is missing; says what to install.
    """
    if crowd not in CROWD_MODES:
        raise ValueError(f'crowd must be one of {CROWD_MODES}, got {crowd!r}')
    layers: List[Tuple[bool, int, np.ndarray, int]] = []
    for region in regions:
        inside = region_pixels(region, size)
        value = IGNORE_INDEX if region.is_crowd and crowd == 'ignore' else region.label
        layers.append((not region.is_crowd, -np.count_nonzero(inside), inside, value))
    mask = np.full(size, uncovered, np.uint8, order='F')  # as regions are
    for _, _, inside, value in sorted(layers, key=lambda layer: layer[:2]):
        np.copyto(mask, value, where=inside)
    return np.ascontiguousarray(mask)


def region_pixels(region: Region, size: Tuple[int, int]) -> np.ndarray:
    """Which pixels a region covers: bool ``(H, W)``.

    Args:
        region: The region.
        size: ``(H, W)`` in pixels.

    Raises:
        ImportError: If pycocotools is missing; says what to install.
    """
    height, width = size
    if region.counts is not None:
        is_inside = np.arange(len(region.counts)) % 2 == 1
        return np.repeat(is_inside, region.counts).reshape(width, height).T
    if not region.polygons:
        return np.zeros(size, bool)
    mask_utils = import_mask_utils()
    polygons = [polygon.tolist() for polygon in region.polygons]
    runs = mask_utils.merge(mask_utils.frPyObjects(polygons, height, width))
    return mask_utils.decode(runs).astype(bool)


def import_mask_utils() -> Any:
    """``pycocotools.mask``.

    Raises:
        ImportError: If pycocotools is missing; says what to install.
    """
    try:
        import pycocotools.mask as mask_utils
    except ImportError as error:
        raise ImportError(
            'masks of COCO are drawn by pycocotools: pip install "mmseg_more[coco]", or '
            'pip install ijson pycocotools'
        ) from error
    return mask_utils
