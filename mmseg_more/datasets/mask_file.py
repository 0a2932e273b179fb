"""A folder of corrected masks, and the file that says which image each belongs to.

``masks.json`` is an object with ``classes``, background first, and ``masks``: the path of a
mask by the image as the label file names it. A path is relative to the file, or absolute.
Masks are PNGs of 8 bits: 0 background, ``k`` the k-th class after it, 255 not labelled.
"""

import json
import os.path as osp
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

import numpy as np

from ..files import json_bytes, read_label_png
from ..localization.pseudo_label import IGNORE_INDEX
from .image_labels import name_few

MASK_FILE = 'masks.json'
_REMEDY = '`python tools/import_masks.py` writes such a file'


class MaskFile(NamedTuple):
    """What a ``masks.json`` holds."""

    classes: List[str]
    """Names, background first."""
    masks: Dict[str, str]
    """Path of the mask by image: in :func:`read_mask_file`'s result from where the program
    runs."""


def mask_file_content(content: MaskFile) -> bytes:
    """The file, whose masks have paths relative to it."""
    return json_bytes(content._asdict(), indent=1)


def read_mask_file(path: str) -> MaskFile:
    """Read a ``masks.json``; the masks themselves are not opened.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none, or names no mask.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(
            f'the mask file {path} does not exist: {_REMEDY}; `mask_file` is relative to '
            'the current folder'
        ) from None
    except ValueError as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not _is_mask_file(content):
        raise ValueError(
            f'{path} must hold an object {{"classes": ["background", ...], "masks": '
            f'{{"ID": "PATH", ...}}}} with one mask at least: {_REMEDY}'
        )
    folder = osp.dirname(path)
    masks = {image: osp.join(folder, mask) for image, mask in content['masks'].items()}
    return MaskFile(content['classes'], masks)


def _is_mask_file(content: Any) -> bool:
    if not isinstance(content, Mapping):
        return False
    classes, masks = content.get('classes'), content.get('masks')
    return (
        isinstance(classes, list)
        and isinstance(masks, Mapping)
        and bool(masks)
        and all(isinstance(name, str) for name in (*classes, *masks.values()))
    )


def read_corrected_mask(path: str, num_classes: int) -> np.ndarray:
    """The labels ``(H, W)`` uint8 of a mask.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no PNG of labels, or has a label above ``num_classes``.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'the corrected mask {path} does not exist')
    with open(path, 'rb') as file:
        labels = read_label_png(file.read(), path)
    highest = labels[labels != IGNORE_INDEX].max(initial=0)
    if highest > num_classes:
        raise ValueError(
            f'{path} holds the value {highest}; 0 is background, 1..{num_classes} are the '
            f'classes and {IGNORE_INDEX} is not labelled: correct the mask or `classes`'
        )
    return labels


def check_image_labels(
    labels: np.ndarray, image_labels: Sequence[int], classes: Sequence[str], where: str
) -> None:
    """See that a mask shows what the image labels of its image say.

    A class of the image labels may be missing in a mask with pixels that are not labelled:
    it may lie there.

    Args:
        labels: The mask, ``(H, W)``.
        image_labels: Indices of the image's classes, from 0.
        classes: Names of the K classes.
        where: Which image and mask, for the error.

    Raises:
        ValueError: If they disagree; names the classes, and what to do.
    """
    present = {int(n) - 1 for n in np.unique(labels) if n not in (0, IGNORE_INDEX)}
    named = set(image_labels)
    missing = set() if IGNORE_INDEX in labels else named - present
    if not (present - named or missing):
        return
    shown, said = (
        name_few([classes[k] for k in sorted(ks)], 10) for ks in (present, named)
    )
    raise ValueError(
        f'{where}: the mask shows {shown or "no class"}, the image labels say '
        f'{said or "no class"}: correct whichever is wrong (a class may also lie where the '
        'mask is 255, not labelled)'
    )
