"""Pictures as a page holds them: small, and a part of the page itself."""

import base64
import io
from typing import Any, Dict, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image

from ..masks.large_images import shrink_image, worked_size
from ..visualization.drawing import TITLES, color_labels, heat_overlay, strongest
from .seen_image import TRUTH, SeenImage

QUALITY = 75
"""Of photographs and heat maps, as WebP."""
MAX_SIDE = 16383
"""Pixels that a WebP has at most in a row or a column."""


def draw_pictures(
    seen: SeenImage, palette: Sequence[Sequence[int]], max_pixels: int
) -> Dict[str, str]:
    """All pictures of an image, as data URIs by their titles.

    The image itself, its maps (the strongest class of each pixel) over it, and the colours
    of its labels.

    Args:
        seen: The image.
        palette: ``C`` RGB colours, background first.
        max_pixels: A picture of more pixels is reduced to at most as many, and one that is
            longer than ``MAX_SIDE`` to that.
    """
    size = _picture_size(seen.image.shape[:2], max_pixels)
    image = shrink_image(seen.image, size)
    pictures = {'image': data_uri(image, quality=QUALITY)}
    for name, maps in seen.maps.items():
        heat = strongest(maps, range(len(maps)))
        heat = cv2.resize(heat, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        pictures[TITLES[name]] = data_uri(heat_overlay(image, heat), quality=QUALITY)
    labels = dict(seen.labels)
    if seen.truth is not None:
        labels[TRUTH] = seen.truth
    for title, value in labels.items():
        colors = color_labels(_shrink_labels(value.numpy(), size), palette)
        # exact: an artefact at an edge would look like another class
        pictures[title] = data_uri(colors, lossless=True)
    return pictures


def data_uri(picture: np.ndarray, **options: Any) -> str:
    """A picture as the address of an image, which holds the image itself.

    Args:
        picture: RGB ``(H, W, 3)`` uint8.
        options: Of Pillow's WebP: ``quality`` or ``lossless``.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'WEBP', **options)
    return 'data:image/webp;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _picture_size(size: Sequence[int], max_pixels: int) -> Tuple[int, int]:
    height, width = worked_size(size, max_pixels)
    longest = max(height, width)
    if longest <= MAX_SIDE:
        return height, width
    return max(height * MAX_SIDE // longest, 1), max(width * MAX_SIDE // longest, 1)


def _shrink_labels(labels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The label in the middle of each of the larger pixels."""
    rows, columns = (
        (np.arange(low) * 2 + 1) * full // (2 * low)
        for low, full in zip(size, labels.shape)
    )
    return labels[rows][:, columns]
