"""Looks at every image of a folder once, and at the labels that belong to it."""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

from ...image_files import (
    find_images,
    opacity,
    orientation,
    shown_pixels,
    stored_pixels,
    without_suffix,
)
from ...progress import with_progress
from ..label_sources import match_labels, read_labels


class ImageFacts(NamedTuple):
    """What there is to know of an image file."""

    path: str
    """Below the folder of the images."""
    size: Optional[Tuple[int, int]]
    """``(H, W)``, upright; None: it cannot be read."""
    bits: int = 8
    """Of a channel."""
    is_transparent: bool = False
    """Whether a pixel is not opaque."""
    is_turned: bool = False
    """Whether EXIF asks to turn or mirror what is stored."""
    is_blank: bool = False
    """Whether all pixels are the same."""
    digest: str = ''
    """Of the pixels: equal for equal pictures, whatever the file."""
    problem: str = ''
    """Why it cannot be read."""

    @property
    def image_id(self) -> str:
        """Its path without suffix, by which data sets know it."""
        return without_suffix(self.path)


class Survey(NamedTuple):
    """A folder of images and its labels."""

    folder: str
    """The folder of the images."""
    form: str
    """What the labels were read from."""
    images: List[ImageFacts]
    """Every image of the folder, by path."""
    left_out: List[str]
    """Files of the folder that are no images."""
    labels: Dict[str, List[str]]
    """Class names by image ID, of the images that have labels."""
    unlabelled: List[str]
    """IDs of the images without."""
    orphans: List[str]
    """Names of labelled images that do not exist."""

    def usable(self) -> Dict[str, List[str]]:
        """The labels of the images that can be trained on: readable, one file for an ID."""
        files = Counter(image.image_id for image in self.images)
        return {
            image.image_id: self.labels[image.image_id]
            for image in self.images
            if image.size and files[image.image_id] == 1 and image.image_id in self.labels
        }

    def classes(self) -> List[str]:
        """The K classes of the usable images, by name."""
        return sorted({name for names in self.usable().values() for name in names})


def make_survey(
    folder: Union[str, Path], labels: Union[str, Path], show_progress: bool = True
) -> Survey:
    """Read all images below a folder, and their labels.

    Args:
        folder: Of the images.
        labels: As ``source`` of :func:`~mmseg_more.datasets.label_sources.read_labels`.
        show_progress: Whether to show on stderr how far it is.

    Raises:
        FileNotFoundError: If folder or labels do not exist.
        ValueError: If there are no images, or the labels cannot be understood.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f'the folder of images {folder} does not exist; correct the path'
        )
    found = find_images(str(folder))
    if not found.images:
        raise ValueError(f'the folder {folder} holds no image, nor do its subfolders')
    source = read_labels(labels, found.images)
    matched = match_labels(source.labels, found.images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders let other threads run
        facts = pool.map(partial(look_at_image, str(folder)), found.images)
        images = list(
            with_progress(
                facts,
                'Images',
                len(found.images),
                transient=True,
                disable=not show_progress,
            )
        )
    return Survey(str(folder), source.form, images, found.left_out, *matched)


def look_at_image(folder: str, path: str) -> ImageFacts:
    """Read an image file.

    Args:
        folder: Of the images.
        path: Below it.
    """
    try:
        content = Path(folder, path).read_bytes()
    except OSError as error:
        return ImageFacts(path, None, problem=error.strerror or str(error))
    stored = stored_pixels(content)
    if stored is None:
        problem = f'{len(content)} bytes that are no image' if content else 'empty'
        return ImageFacts(path, None, problem=problem)
    pixels, share = shown_pixels(stored, content), opacity(stored, content)
    return ImageFacts(
        path,
        (pixels.shape[0], pixels.shape[1]),
        bits=8 * stored.dtype.itemsize,
        is_transparent=share is not None and bool((share < 1).any()),
        is_turned=orientation(content) != 1,
        is_blank=bool((pixels == pixels[0, 0]).all()),
        digest=hashlib.sha256(pixels.tobytes() + repr(pixels.shape).encode()).hexdigest(),
    )
