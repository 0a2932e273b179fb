"""Files of vectors that stand for classes, such as CLIP's text tower gives."""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple, Tuple, Union

import numpy as np

from .files import write_bytes


class TextVectors(NamedTuple):
    """A vector for each class, in the space of a backbone's patches.

    The file is numpy's ``.npz`` with arrays of these names, without pickled objects.
    """

    classes: np.ndarray
    """Names of the K classes, without background, as the data set has them."""
    vectors: np.ndarray
    """float32 ``(K, D)``."""
    background: np.ndarray
    """M words for what is no class; may be empty."""
    background_vectors: np.ndarray
    """float32 ``(M, D)``."""


def read_text_vectors(path: Union[str, Path]) -> TextVectors:
    """Read a file of vectors.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none, or its arrays do not fit each other.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'the file of text vectors {path} does not exist: '
            'tools/model_converters/clip_text.py makes it'
        )
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise TypeError('it holds one array')
        with arrays:
            found = TextVectors(*(arrays[name] for name in TextVectors._fields))
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f'{path} is no file of text vectors, an .npz with {TextVectors._fields}: '
            f'{type(error).__name__}: {error}'
        ) from error
    _check(found, path)
    return found


def write_text_vectors(path: Union[str, Path], vectors: TextVectors) -> None:
    """Write a file of vectors, whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **vectors._asdict())
    write_bytes(path, buffer.getvalue())


def name_differences(names: Tuple[str, ...], expected: Tuple[str, ...]) -> str:
    """How class names of a file differ from those of a data set; empty if they do not."""
    if names == expected:
        return ''
    extra = [name for name in names if name not in expected]
    missing = [name for name in expected if name not in names]
    if not extra and not missing:
        return f'they are in another order: {", ".join(names)}'
    differences = []
    if extra:
        differences.append(f'the file alone has {", ".join(extra)}')
    if missing:
        differences.append(f'the data set alone has {", ".join(missing)}')
    return '; '.join(differences)


def _check(found: TextVectors, path: Union[str, Path]) -> None:
    vectors, background = found.vectors, found.background_vectors
    if (
        found.classes.ndim != 1
        or vectors.shape[:-1] != found.classes.shape
        or background.shape != (*found.background.shape, *vectors.shape[-1:])
        or not vectors.size
    ):
        shapes = ', '.join(f'{key} {value.shape}' for key, value in found._asdict().items())
        raise ValueError(f'arrays of {path} do not fit each other: {shapes}')
    if not np.isfinite(vectors).all() or not np.isfinite(background).all():
        raise ValueError(f'{path} holds vectors that are not numbers (NaN or infinite)')
