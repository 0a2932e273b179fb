"""Images above a number of pixels: seen at a lower size, masks at their own."""

import math
from typing import Any, Iterator, Optional, Sequence, Tuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..localization import enlarged_strips, fit_guided_filter, guided_strips
from .confidence import pixel_confidence
from .probabilities import ClassProbabilities, probabilities_to_mask

MAX_PIXELS = 10**6
"""The default limit: no image of PASCAL VOC (up to 500 x 500) or COCO (up to 640 x 640)
reaches it."""


def check_max_pixels(max_pixels: Any) -> None:
    """Raise ValueError if a limit is neither a whole positive number nor None."""
    whole = isinstance(max_pixels, int) and not isinstance(max_pixels, bool)
    if max_pixels is not None and (not whole or max_pixels < 1):
        raise ValueError(
            'max_pixels must be a whole number of at least 1, or None for no limit, got '
            f'{max_pixels!r}'
        )


def worked_size(size: Sequence[int], max_pixels: Optional[int]) -> Tuple[int, int]:
    """The size that an image is worked on at.

    Args:
        size: ``(H, W)`` of the image.
        max_pixels: The limit; None: there is none.

    Returns:
        The size itself up to the limit. Beyond it, the largest one that keeps the aspect,
        rounded down; no side gets shorter than a pixel.
    """
    height, width = int(size[0]), int(size[1])
    if max_pixels is None or height * width <= max_pixels:
        return height, width
    share = math.sqrt(max_pixels / (height * width))
    low_height = min(max(int(height * share), 1), max_pixels)
    low_width = min(max(int(width * share), 1), max_pixels // low_height)
    return low_height, low_width


def shrink_image(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """An image ``(H, W, 3)`` at a lower size ``(h, w)``: means over areas."""
    if pixels.shape[:2] == tuple(size):
        return pixels
    return cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def shrink_probabilities(
    probabilities: ClassProbabilities, size: Sequence[int]
) -> ClassProbabilities:
    """Probabilities at a lower size ``(h, w)``, likewise."""
    if probabilities.probs.shape[-2:] == tuple(size):
        return probabilities
    return probabilities._replace(
        probs=F.adaptive_avg_pool2d(probabilities.probs, (size[0], size[1]))
    )


@torch.no_grad()
def full_size_mask(
    probabilities: ClassProbabilities,
    size: Sequence[int],
    image: Optional[np.ndarray] = None,
    bkg: Optional[float] = None,
) -> Tuple[np.ndarray, np.ndarray]:
    """The mask of an image at its full size, from probabilities at a lower one.

    Without an image they are interpolated as maps are. With one they follow its edges
    (:mod:`mmseg_more.localization.guided`). It goes some rows at a time, so that no channel
    is ever held at the full size.

    Args:
        probabilities: At the lower size.
        size: ``(H, W)``, the full one.
        image: RGB uint8 ``(H, W, 3)``, the guide. None: none.
        bkg: Threshold of a map, see :func:`probabilities_to_mask`.

    Returns:
        Dense labels ``(H, W)`` uint8, and how sure each of them is, float32 ``(H, W)`` in
        [0, 1], before any calibration.
    """
    mask = np.empty(tuple(size), np.uint8)
    confidence = np.empty(tuple(size), np.float32)
    for rows, probs in _strips(probabilities.probs, size, image):
        strip = probabilities._replace(probs=probs.clamp_(0, 1))
        labels = probabilities_to_mask(strip, bkg)
        mask[rows] = labels.cpu().numpy()
        confidence[rows] = pixel_confidence(labels, strip, bkg)
    return mask, confidence


def _strips(
    probs: Tensor, size: Sequence[int], image: Optional[np.ndarray]
) -> Iterator[Tuple[slice, Tensor]]:
    if image is None:
        return enlarged_strips(probs, size)
    low = torch.from_numpy(shrink_image(image, probs.shape[-2:]))
    guide = low.to(probs.device).permute(2, 0, 1) / 255
    return guided_strips(fit_guided_filter(guide, probs), torch.from_numpy(image))
