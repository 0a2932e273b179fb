"""What an inferencer is given: files, folders, arrays, and lists of them."""

import os
import os.path as osp
from logging import WARNING
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from mmengine.logging import print_log

from ..datasets.image_labels import name_few
from ..image_files import IMAGE_SUFFIXES, find_images, without_suffix

InputType = Union[str, 'os.PathLike', np.ndarray]
InputsType = Union[InputType, Sequence[InputType]]


class InferenceInput(NamedTuple):
    """One image to come."""

    position: int
    """Its place among the inputs."""
    name: str
    """What its files are called, without suffix; of an image in a subfolder of a folder
    that was given, its path below that folder."""
    path: Optional[str]
    """File or address; None for an array."""
    pixels: Optional[np.ndarray]
    """BGR ``(H, W, 3)`` uint8; None for a file, which is read later."""


def list_inputs(inputs: InputsType, excluded: Sequence[str] = ()) -> List[InferenceInput]:
    """Find out which images are meant, before the first one is read.

    Args:
        inputs: Path or address of an image, folder (its images and those of the folders
            below it, by name), array ``(H, W, 3)`` (BGR) or ``(H, W)`` (gray) of uint8,
            or a list of those.
        excluded: Folders below those that are not looked into, as that of the results.

    Returns:
        The images in order. Files are called as they are, arrays ``array_00000000``
        and so on. What a folder holds beside images is counted and named in a warning.

    Raises:
        FileNotFoundError: If a path does not exist.
        TypeError: If an input is none of these.
        ValueError: If an array is no image, or if there are no images at all.
    """
    items: List[InferenceInput] = []
    for given in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
        if isinstance(given, np.ndarray):
            name = f'array_{len(items):08d}'
            items.append(InferenceInput(len(items), name, None, _as_bgr(given)))
        elif isinstance(given, (str, os.PathLike)):
            for name, path in _files(os.fspath(given), excluded):
                items.append(InferenceInput(len(items), name, path, None))
        else:
            raise TypeError(
                'an input is a path, a folder or an array (H, W, 3) of '
                f'uint8, got {type(given).__name__}'
            )
    if not items:
        raise ValueError('no inputs: give at least one image')
    return items


def check_names(inputs: Sequence[InferenceInput], folders: Sequence[str]) -> None:
    """Raise ValueError if a result would overwrite another one, or an input.

    Args:
        inputs: The images.
        folders: Where ``NAME.png`` of each is written to.
    """
    paths: Dict[str, Optional[str]] = {}
    for item in inputs:
        if item.name in paths and item.path == paths[item.name]:
            raise ValueError(f'{item.path} is given twice: leave one out')
        if item.name in paths:
            raise ValueError(
                f'{paths[item.name]} and {item.path} would both be written as '
                f'{item.name}.png: rename one, or run them one after the other, with an '
                'output folder each'
            )
        paths[item.name] = item.path
    given = {osp.realpath(item.path) for item in inputs if item.path is not None}
    for item in inputs:
        for folder in folders:
            target = osp.join(folder, f'{item.name}.png')
            if osp.realpath(target) in given:
                raise ValueError(
                    f'{target} would be overwritten, and is one of the images: choose '
                    'another output folder'
                )


def is_single(inputs: InputsType) -> bool:
    """Whether one image is meant, not a list or a folder of maybe one."""
    if isinstance(inputs, (str, os.PathLike)):
        return not osp.isdir(inputs)
    return not isinstance(inputs, (list, tuple))


def _files(path: str, excluded: Sequence[str]) -> List[Tuple[str, str]]:
    """Names and paths of the images that a path stands for."""
    if osp.isdir(path):
        found = find_images(path, excluded)
        if not found.images:
            raise ValueError(
                f'the folder {path} holds no image ({", ".join(IMAGE_SUFFIXES)})'
            )
        if found.left_out:
            print_log(
                f'{len(found.left_out)} files in {path} are no images, and left out: '
                f'{name_few(found.left_out)}',
                'current',
                WARNING,
            )
        return [(without_suffix(name), osp.join(path, name)) for name in found.images]
    named = [(osp.splitext(osp.basename(path))[0], path)]
    if '://' in path:
        return named
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
    return named


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
