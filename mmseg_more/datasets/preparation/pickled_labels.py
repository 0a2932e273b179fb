"""The label files of the field, ``cls_labels*.npy``: pickled dicts, read without danger."""

import pickle
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Dict, Mapping, NoReturn, Optional, Sequence, Tuple

import numpy as np

from ..image_labels import ImageLabels

_PLAIN_KINDS = 'biufSUO'  # of dtypes: truth values, numbers, text, objects


class UnsafePickleError(ValueError):
    """A pickle that asks for more than arrays and plain containers."""


class _DType:
    """Stands for ``numpy.dtype``, whose own ``__setstate__`` believes what it is told."""

    def __init__(self, name: str, *_: Any) -> None:
        if not isinstance(name, str) or np.dtype(name).kind not in _PLAIN_KINDS:
            raise UnsafePickleError(f'numpy.dtype({name!r})')
        self.value = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        byte_order = state[1]
        self.value = self.value.newbyteorder(byte_order)


class _Array:
    """Stands for ``numpy.ndarray``: the array is made from checked parts."""

    value: Optional[np.ndarray] = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        if isinstance(content, str):  # by Python 2
            content = content.encode('latin1')
        if dtype.value.hasobject:
            values = np.empty(len(content), object)
            values[:] = content
        else:
            values = np.frombuffer(content, dtype.value)
        self.value = values.reshape(shape, order='F' if is_fortran else 'C')


def _reconstruct(*_: Any) -> _Array:
    """An array whose content is set later."""
    return _Array()


def _scalar(dtype: _DType, content: bytes) -> np.generic:
    """A number or text; NumPy refuses those of objects."""
    return np.frombuffer(content, dtype.value)[0]


def _latin1(text: str, encoding: str) -> bytes:
    """The bytes of an array, as pickles of Python 2's protocol write them."""
    if encoding != 'latin1':
        raise UnsafePickleError(f'_codecs.encode to {encoding!r}')
    return text.encode('latin1')


_PERMITTED: Dict[Tuple[str, str], Any] = {
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _DType,
    ('_codecs', 'encode'): _latin1,
    # the module of NumPy 1 and of NumPy 2
    ('numpy.core.multiarray', '_reconstruct'): _reconstruct,
    ('numpy._core.multiarray', '_reconstruct'): _reconstruct,
    ('numpy.core.multiarray', 'scalar'): _scalar,
    ('numpy._core.multiarray', 'scalar'): _scalar,
}


class _ArraysAndDicts(pickle.Unpickler):
    """Builds arrays, numbers, text and plain containers; anything else is refused.

    No code of NumPy sees what the file says of arrays before it is checked here.
    """

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _PERMITTED[module, name]
        except KeyError:
            raise UnsafePickleError(f'{module}.{name}') from None

    def persistent_load(self, pid: Any) -> NoReturn:
        raise UnsafePickleError('an object outside of the file')


def read_pickled_labels(path: Path, classes: Sequence[str]) -> ImageLabels:
    """Image labels from a dict of 0/1 vectors that ``numpy.save`` has pickled.

    Nothing in the file is executed: the unpickler builds arrays and plain containers, and
    refuses everything else.

    Args:
        path: The ``.npy`` file. Keys are image IDs, or VOC's as numbers (2007000032 for
            ``2007_000032``); values are vectors ``(K,)`` of 0 and 1.
        classes: The K class names, without background.

    Returns:
        Class names of each image, in the order of ``classes``.

    Raises:
        ValueError: If it is another file, or asks for anything but arrays and dicts; names
            what it asks for.
    """
    with open(path, 'rb') as file:
        content = _read_object(path, file)
    # numpy.save puts a dict into an array without dimensions
    if isinstance(content, _Array) and content.value is not None:
        content = content.value.item() if content.value.shape == () else content.value
    if not isinstance(content, dict):
        raise ValueError(
            f'{path} holds a {type(content).__name__}, expected a dict of label vectors'
        )
    return _names_of(path, content, classes)


def _read_object(path: Path, file: BinaryIO) -> Any:
    """What a ``.npy`` file of Python objects holds."""
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        _, _, dtype = read_header(file)
    # NumPy reads the header as Python, whose tokens can end anywhere
    except (ValueError, KeyError, SyntaxError, TokenError) as error:
        raise ValueError(f'{path} is no .npy file: {error}') from error
    if not dtype.hasobject:
        raise ValueError(f'{path} holds an array of {dtype}, expected a dict of labels')
    try:
        # as latin1 any bytes of Python 2 are text
        return _ArraysAndDicts(file, encoding='latin1').load()
    except UnsafePickleError as error:
        raise ValueError(
            f'{path} is refused: its pickle asks for {error}, and label files need arrays '
            'and dicts alone. Do not open it by other programs either'
        ) from error
    except Exception as error:  # a damaged pickle can raise any
        raise ValueError(
            f'{path} is damaged: {type(error).__name__}: {error}; download it again'
        ) from error


def _names_of(
    path: Path, content: Mapping[Any, Any], classes: Sequence[str]
) -> ImageLabels:
    labels: ImageLabels = {}
    for key, value in content.items():
        image_id, vector = _image_id(key), getattr(value, 'value', None)
        if image_id is None or vector is None or vector.shape != (len(classes),):
            size = getattr(vector, 'shape', type(value).__name__)
            raise ValueError(
                f'{path}: expected image IDs with vectors of {len(classes)} numbers, got '
                f'{key!r} with {size}'
            )
        if vector.dtype.kind not in 'biuf' or not np.isin(vector, (0, 1)).all():
            raise ValueError(f'{path}, image {image_id!r}: expected 0 and 1 alone')
        labels[image_id] = [classes[index] for index in np.flatnonzero(vector).tolist()]
    if len(labels) < len(content):
        raise ValueError(f'{path} has an image twice, by its name and by its number')
    return labels


def _image_id(key: Any) -> Optional[str]:
    """``2007_000032``, also where it was written as the number 2007000032."""
    if isinstance(key, (int, np.integer)):
        digits = f'{int(key):010d}'
        return f'{digits[:4]}_{digits[4:]}'
    return str(key) if isinstance(key, str) and key else None
