"""Image files of any kind: which there are, and one policy of reading them.

* Which way up: as a viewer shows it (EXIF), and so is everything that is made of it.
* More than 8 bits: integers keep the 8 highest of those that the image uses, out of 8, 10,
  12, 14 or 16, so that the 12 bits of a camera are not nearly black. Other numbers are
  stretched from their smallest to their largest value.
* Transparency: the image lies on white, so that what is hidden stays hidden. A fourth band
  of a TIFF that the file does not call opacity, such as near infrared, is left out.
* Several pictures or pages: the first.

An image of 8 bits without transparency is what ``mmcv.imfrombytes`` gives with OpenCV 5;
older ones do not turn a WebP, and read no GIF.
"""

import io
import os
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

IMAGE_SUFFIXES = (
    '.jpg',
    '.jpeg',
    '.png',
    '.bmp',
    '.gif',
    '.pgm',
    '.ppm',
    '.tif',
    '.tiff',
    '.webp',
)
"""Files that are taken for images, in lower case, by data sets and inference alike."""
WHITE = 255
_BITS = (8, 10, 12, 14, 16)
_JPEG = b'\xff\xd8\xff'
_GIF = (b'GIF87a', b'GIF89a')
_BIG_TIFF = (b'II+\0', b'MM\0+')
_TIFF = (b'II*\0', b'MM\0*', *_BIG_TIFF)
_EXIF = (b'eXIf', b'EXIF', b'Exif', b'exif')  # without one of these there is none
_ORIENTATION = 0x0112
_EXTRA_SAMPLES = 338
# What a TIFF says of the band behind its colours: not opacity, or opacity with which the
# colours are multiplied, or are not.
_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED = 0, 1, 2
# What EXIF's orientations ask for, of an array (H, W, ...)
_TURNS: Dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


class FolderImages(NamedTuple):
    """What a folder holds, paths below it with ``/``, sorted."""

    images: List[str]
    """Files with one of ``IMAGE_SUFFIXES``."""
    left_out: List[str]
    """All other files."""


def find_images(folder: str, excluded: Sequence[str] = ()) -> FolderImages:
    """The images below a folder, in its subfolders too.

    Hidden files and folders (``.NAME``) are passed over, and so is a folder that a link
    leads to and that holds the link itself.

    Args:
        folder: An existing folder.
        excluded: Folders that are not looked into.
    """
    images: List[str] = []
    left_out: List[str] = []
    for path in files_below(folder, excluded):
        (images if path.lower().endswith(IMAGE_SUFFIXES) else left_out).append(path)
    return FolderImages(sorted(images), sorted(left_out))


def files_below(folder: str, excluded: Sequence[str] = ()) -> Iterator[str]:
    """All files of a folder and its subfolders, as :func:`find_images` looks for them.

    Args:
        folder: An existing folder.
        excluded: Folders that are not looked into.

    Yields:
        Paths below the folder, with ``/``.
    """
    barred = {os.path.realpath(path) for path in excluded}
    for current, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(current)
        folders[:] = [
            name
            for name in folders
            if not name.startswith('.')
            and os.path.realpath(os.path.join(current, name)) not in barred
            and not _holds(os.path.realpath(os.path.join(current, name)), here)
        ]
        for name in names:
            if not name.startswith('.'):
                yield Path(os.path.relpath(os.path.join(current, name), folder)).as_posix()


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ''))


def without_suffix(name: str) -> str:
    """A name without the suffix of an image; any other suffix stays."""
    for suffix in IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def decode_image(content: bytes) -> Optional[np.ndarray]:
    """An image file as BGR ``(H, W, 3)`` uint8, by the policy above.

    Args:
        content: Of the file.

    Returns:
        The pixels; None if they cannot be decoded.
    """
    stored = stored_pixels(content)
    return None if stored is None else shown_pixels(stored, content)


def stored_pixels(content: bytes) -> Optional[np.ndarray]:
    """Pixels of an image file with the bits and channels that it has.

    Those of a JPEG, which has 8 bits and no transparency, are BGR and upright already.

    Args:
        content: Of the file.

    Returns:
        ``(H, W)`` or ``(H, W, C)``; None if they cannot be decoded.
    """
    if not content:
        return None
    is_jpeg = content.startswith(_JPEG)
    pixels = cv2.imdecode(
        np.frombuffer(content, np.uint8),
        cv2.IMREAD_COLOR if is_jpeg else cv2.IMREAD_UNCHANGED,
    )
    if pixels is None and content.startswith(_GIF):
        return _stored_pixels_of_gif(content)
    return pixels


def _stored_pixels_of_gif(content: bytes) -> Optional[np.ndarray]:
    """As :func:`stored_pixels`, by Pillow: OpenCV 4.11 and older read no GIF."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            has_opacity = 'transparency' in image.info
            pixels = np.asarray(image.convert('RGBA' if has_opacity else 'RGB'))
    except Exception:  # whatever Pillow has against it
        return None
    return cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if has_opacity else cv2.COLOR_RGB2BGR)


def shown_pixels(stored: np.ndarray, content: bytes) -> np.ndarray:
    """Stored pixels as BGR ``(H, W, 3)`` uint8, by the policy above.

    Args:
        stored: From :func:`stored_pixels`.
        content: Of the same file.
    """
    if content.startswith(_JPEG):
        return stored
    share = opacity(stored, content)
    if share is not None:
        pixels = _on_white(stored[..., :3], share, _is_multiplied(stored, content))
        return _turned(pixels, content)
    if stored.ndim == 2:
        return _turned(cv2.cvtColor(_to_8_bits(stored), cv2.COLOR_GRAY2BGR), content)
    return _turned(np.ascontiguousarray(_to_8_bits(stored[..., :3])), content)


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        used = next(bits for bits in _BITS if int(pixels.max()) < 1 << bits)
        return (pixels >> (used - 8)).astype(np.uint8)
    finite = np.nan_to_num(pixels.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = finite.min(), finite.max()
    return np.round((finite - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)


def opacity(stored: np.ndarray, content: bytes) -> Optional[np.ndarray]:
    """Opacity ``(H, W)`` in [0, 1] of an image as it is stored; None: it has none.

    Args:
        stored: From :func:`stored_pixels`.
        content: Of the same file.
    """
    if stored.ndim < 3 or stored.shape[2] != 4 or _fourth_band(content) == _UNSPECIFIED:
        return None
    highest = {1: 0xFF, 2: 0xFFFF}.get(stored.dtype.itemsize, 1.0)
    return stored[..., 3].astype(np.float64) / highest


def _is_multiplied(stored: np.ndarray, content: bytes) -> bool:
    """Whether the stored colours are multiplied with their opacity.

    OpenCV multiplies those of 8 bits of a TIFF if the file has not.
    """
    kind = _fourth_band(content)
    return kind == _ASSOCIATED or (kind == _UNASSOCIATED and stored.dtype == np.uint8)


def _fourth_band(content: bytes) -> Optional[int]:
    """What a TIFF says of the band behind its colours; None: nothing, or it is no TIFF."""
    if not content.startswith(_TIFF):
        return None
    file = io.BytesIO(content)
    try:
        tags = ImageFileDirectory_v2(file.read(16 if content.startswith(_BIG_TIFF) else 8))
        file.seek(tags.next)
        tags.load(file)
        return int(tags[_EXTRA_SAMPLES][0])
    except Exception:  # there is no such tag, or whatever Pillow has against the file
        return None


def _on_white(colors: np.ndarray, share: np.ndarray, is_multiplied: bool) -> np.ndarray:
    share = share[..., None]
    own = _to_8_bits(colors) * (1 if is_multiplied else share)
    return np.round(own + WHITE * (1 - share)).clip(0, WHITE).astype(np.uint8)


def _turned(pixels: np.ndarray, content: bytes) -> np.ndarray:
    """Pixels as they are stored, turned as EXIF asks; OpenCV has turned those of a TIFF."""
    if content.startswith(_TIFF) or not any(name in content for name in _EXIF):
        return pixels
    turn = _TURNS.get(orientation(content))
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def orientation(content: bytes) -> int:
    """EXIF's orientation of an image file: 1 is upright, also where none is given."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever Pillow has against a file that OpenCV reads
        return 1
