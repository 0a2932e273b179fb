"""Pseudo labels from normalised maps (MoRe, section 3.4).

Dense labels: 0 background, ``k + 1`` for class ``k``, 255 ignored.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor

from .maps import resize_map

IGNORE_INDEX = 255


def maps_to_labels(
    maps: Tensor, image_labels: Tensor, high: float, low: Optional[float] = None
) -> Tensor:
    """Dense labels of the present classes by one or two thresholds.

    The label is ``argmax + 1`` of ``maps * image_labels``. With two
    thresholds it becomes 255 where the maximum is ``<= high``, and then 0
    where it is ``<= low``; with ``high`` alone it becomes 0 where the maximum is
    ``<= high``.

    Args:
        maps: Normalised maps ``(B, K, H, W)`` in [0, 1].
        image_labels: Multi-hot image labels ``(B, K)``.
        high: Upper threshold in [0, 1].
        low: Lower threshold in [0, 1]; ``None`` for one threshold.

    Returns:
        Labels, int64 ``(B, H, W)``.

    Raises:
        ValueError: If ``low`` is above ``high``.
    """
    if low is not None and low > high:
        raise ValueError(f'low ({low}) must not be above high ({high})')
    valid = maps * image_labels.to(maps)[:, :, None, None]
    value, index = valid.max(dim=1)
    labels = index + 1
    if low is None:
        return labels.masked_fill(value <= high, 0)
    labels = labels.masked_fill(value <= high, IGNORE_INDEX)
    return labels.masked_fill(value <= low, 0)


def maps_to_patch_labels(
    maps: Tensor, image_labels: Tensor, high: float, low: float, grid: Tuple[int, int]
) -> Tensor:
    """Two-threshold labels at patch resolution.

    The maps ``(B, K, H, W)`` are resized bilinearly to ``grid = (h, w)`` before
    :func:`maps_to_labels`. Returns int64 ``(B, h, w)``.
    """
    return maps_to_labels(resize_map(maps, grid), image_labels, high, low)


def affinity_pairs(labels: Tensor) -> Tensor:
    """Pairwise relation of patches from their labels.

    Args:
        labels: ``(B, h, w)`` with 255 for "ignore".

    Returns:
        uint8 ``(B, N, N)``, ``N = h*w``: 1 for the same label, 0 for
        different ones, 255 where either is ignored and on the diagonal.
    """
    flat = labels.flatten(1)
    pairs = (flat[:, :, None] == flat[:, None, :]).to(torch.uint8)
    ignored = flat == IGNORE_INDEX
    diagonal = torch.eye(flat.shape[1], dtype=torch.bool, device=labels.device)
    return pairs.masked_fill(
        ignored[:, :, None] | ignored[:, None, :] | diagonal, IGNORE_INDEX
    )
