"""A look at an image file: whether it is whole, and as large as is said elsewhere."""

from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from PIL import Image


class ImageState(NamedTuple):
    """What was seen of an image file."""

    problem: Optional[str]
    """Why it cannot be used, with its path; None: it can."""
    is_gray: bool = False
    """Whether it has one channel. Loaders make three of it."""


def check_image(path: Path, size: Tuple[int, int]) -> ImageState:
    """Decode an image, as fast as its format allows.

    A JPEG that is cut off is a problem here; OpenCV, which trainings load with, paints the
    rest gray and says nothing.

    Args:
        path: The file.
        size: ``(H, W)`` that it should have, in pixels.
    """
    if not path.is_file():
        return ImageState(f'{path} does not exist')
    try:
        with Image.open(path) as image:
            width, height = image.size
            is_gray = image.mode in ('1', 'L', 'I', 'I;16')
            # a JPEG at an eighth of its size: all of the file is read nevertheless
            image.draft(None, (max(1, width // 8), max(1, height // 8)))
            image.load()
    except Exception as error:  # Pillow's plugins raise many kinds
        return ImageState(f'{path} is broken ({error})')
    if (height, width) != tuple(size):
        return ImageState(
            f'{path} has {height}x{width} pixels, its annotation says {size[0]}x{size[1]}'
        )
    return ImageState(None, is_gray)
