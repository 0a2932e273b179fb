"""What an inferencer is given: files, folders, arrays, and lists of them."""

import os
import os.path as osp
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from ..datasets.image_labels import name_few

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp')
"""Files of a folder that are taken for images, in lower case."""

InputType = Union[str, 'os.PathLike', np.ndarray]
InputsType = Union[InputType, Sequence[InputType]]


class InferenceInput(NamedTuple):
    """One image to come."""

    position: int
    """Its place among the inputs."""
    name: str
    """What its files are called, without suffix."""
    path: Optional[str]
    """File or address; None for an array."""
    pixels: Optional[np.ndarray]
    """BGR ``(H, W, 3)`` uint8; None for a file, which is read later."""


def list_inputs(inputs: InputsType) -> List[InferenceInput]:
    """Find out which images are meant, before the first one is read.

    Args:
        inputs: Path or address of an image, folder (its images, not those of folders
            below it, by name), array ``(H, W, 3)`` (BGR) or ``(H, W)`` (gray) of uint8,
            or a list of those.

    Returns:
        The images in order. Files are called as they are, arrays ``array_00000000``
        and so on.

    Raises:
        FileNotFoundError: If a path does not exist.
        TypeError: If an input is none of these.
        ValueError: If an array is no image, or if there are no images at all.
    """
    sources: List[Any] = []
    for given in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
        if isinstance(given, np.ndarray):
            sources.append(_as_bgr(given))
        elif isinstance(given, (str, os.PathLike)):
            sources.extend(_files(os.fspath(given)))
        else:
            raise TypeError(
                'an input is a path, a folder or an array (H, W, 3) of '
                f'uint8, got {type(given).__name__}'
            )
    if not sources:
        raise ValueError('no inputs: give at least one image')
    return [_named(index, source) for index, source in enumerate(sources)]


def _named(index: int, source: Union[str, np.ndarray]) -> InferenceInput:
    if isinstance(source, str):
        name = osp.splitext(osp.basename(source))[0]
        return InferenceInput(index, name, source, None)
    return InferenceInput(index, f'array_{index:08d}', None, source)


def check_names(inputs: Sequence[InferenceInput]) -> None:
    """Raise ValueError if the files of two inputs would have one name."""
    paths: Dict[str, Optional[str]] = {}
    for item in inputs:
        if item.name in paths:
            raise ValueError(
                f'{paths[item.name]} and {item.path} would both be written as '
                f'{item.name}.png: run them one after the other, with an output folder '
                'each'
            )
        paths[item.name] = item.path


def is_single(inputs: InputsType) -> bool:
    """Whether one image is meant, not a list or a folder of maybe one."""
    if isinstance(inputs, (str, os.PathLike)):
        return not osp.isdir(inputs)
    return not isinstance(inputs, (list, tuple))


def _files(path: str) -> List[str]:
    if '://' in path:
        return [path]
    if osp.isdir(path):
        names = sorted(
            name
            for name in os.listdir(path)
            if name.lower().endswith(IMAGE_SUFFIXES)
            and not name.startswith('.')
            and not osp.isdir(osp.join(path, name))
        )
        if not names:
            raise ValueError(
                f'the folder {path} holds no image ({", ".join(IMAGE_SUFFIXES)})'
            )
        return [osp.join(path, name) for name in names]
    if not osp.exists(path):
        folder = osp.dirname(path) or '.'
        near = sorted(os.listdir(folder)) if osp.isdir(folder) else []
        raise FileNotFoundError(
            f'the image {path} does not exist. '
            + (
                f'In {folder} there are: {name_few(near)}.'
                if near
                else f'{folder} is no folder, or an empty one.'
            )
        )
    return [path]


def _as_bgr(pixels: np.ndarray) -> np.ndarray:
    gray = pixels.ndim == 2
    if (
        pixels.dtype != np.uint8
        or not pixels.size
        or not gray
        and (pixels.ndim != 3 or pixels.shape[2] != 3)
    ):
        raise ValueError(
            'an array must be a BGR image (H, W, 3), or a gray one (H, W), of '
            f'uint8; got {pixels.dtype} {pixels.shape}'
        )
    return np.repeat(pixels[..., None], 3, axis=2) if gray else pixels
