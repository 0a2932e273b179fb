"""Images that are read; files that are whole or not there."""

import io
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePath
from pickle import UnpicklingError
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from mmengine import fileio
from PIL import Image
from torch import Tensor

from .image_files import decode_image

_MAX_NAME = 255
"""Bytes of a name that any file system takes."""
_RANDOM = 8
"""Characters that ``tempfile`` puts behind a prefix."""


def read_rgb(
    path: str, size: Optional[Sequence[int]] = None, backend_args: Optional[dict] = None
) -> np.ndarray:
    """An image file as RGB ``(H, W, 3)`` uint8.

    It is decoded by :func:`~mmseg_more.image_files.decode_image`.

    Args:
        path: The file.
        size: ``(H, W)`` of the network's output for it. None: any.
        backend_args: As in ``LoadImageFromFile``.

    Raises:
        ValueError: It has another size, or does not decode as an image.
    """
    image = decode_image(fileio.get(path, backend_args=backend_args))
    if image is None:
        raise ValueError(f'{path} does not decode as an image')
    if size is not None and image.shape[:2] != tuple(size):
        raise ValueError(
            f'{path} has {image.shape[0]}x{image.shape[1]} pixels, its output '
            f'{size[0]}x{size[1]}: the pipeline must keep the size of the file in '
            "`ori_shape`, and read it with LoadAnyImage, or LoadImageFromFile's defaults"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_lines(path: Union[str, Path], kind: str = '') -> List[str]:
    """The lines of a list of names but empty ones, without spaces around them.

    Windows may have begun the file with a byte order mark.

    Args:
        path: Text file with a name on each line.
        kind: What the error calls it before its path.

    Raises:
        ValueError: If it is not in UTF-8.
    """
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{kind} {path} is not text in UTF-8 ({error}); save it as UTF-8'.lstrip()
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_safetensors(path: str) -> Dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the package is missing; says how to install it.
        ValueError: If it is no such file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise ImportError(
            f'{path} needs the package safetensors: pip install safetensors'
        ) from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f'{path} does not read as safetensors: {error}') from error


class UnreadableCheckpoint(ValueError, UnpicklingError):
    """A file is no checkpoint, or holds more than weights; also what PyTorch raises."""


@contextmanager
def reading_checkpoint(path: str) -> Iterator[None]:
    """Have whatever goes wrong while a checkpoint is read name the file and the remedy.

    Any bytes may be unpickled here, so any exception may come of it.

    Args:
        path: File or address that is read in the block, with ``weights_only=True``.

    Raises:
        OSError: If it cannot be read, is not there (FileNotFoundError) or not loaded down.
        UnreadableCheckpoint: If it is none, or holds other objects than weights.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'checkpoint {path} is no file that exists: correct the path'
        ) from error
    except OSError as error:
        if error.filename:
            raise
        raise OSError(f'checkpoint {path} cannot be read: {error}') from error
    except MemoryError:
        raise
    except Exception as error:
        found = re.search(r'GLOBAL ([\w.]+)', str(error))
        if found:
            raise UnreadableCheckpoint(
                f'{path} holds more than weights (an object of {found.group(1)}) and is '
                'not opened, since that could run any code. If you trust it, save its '
                'weights by themselves first: content = torch.load(FILE, '
                "weights_only=False); torch.save(content['model_state_dict'], NEW_FILE), "
                'or content.state_dict() of a model'
            ) from error
        # PyTorch's advice, to open whatever it is, stands before and below the reason
        reason = str(error).rpartition('WeightsUnpickler error:')[2].strip()
        reason = reason.partition('\n')[0].strip() or 'nothing more is known'
        raise UnreadableCheckpoint(
            f'{path} does not read as a PyTorch checkpoint '
            f'({type(error).__name__}: {reason}): give what a training or torch.save '
            'has written, or copy it again'
        ) from error


def write_bytes(path: Union[str, Path], content: bytes, sync: bool = False) -> None:
    """Write a file so that a reader, also after a crash, sees all of it or none.

    The content goes to a hidden file ``.NAME.*`` in the same folder, which then takes the
    place of ``path``; of a very long name it has the end. The folder is made if it is
    missing.

    Args:
        path: The file.
        content: All of it.
        sync: Whether to wait until it is on the disk, so that a power failure spares it
            too.

    Raises:
        OSError: If the folder or the disk does not take it; names ``path``, of which an
            earlier version is still there. Nothing else is left behind.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_unfinished(path))
        try:
            with os.fdopen(handle, 'wb') as file:
                file.write(content)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp gives 0600
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        # the same kind of error, with the name that the user knows
        raise type(error)(error.errno, error.strerror, str(path)) from error


def _unfinished(path: Path) -> str:
    """What the name of a file or folder begins with until it is whole.

    A name that would get too long loses its first characters: by its suffix others know
    what was left behind.
    """
    name = path.name
    while len(os.fsencode(f'.{name}.')) + _RANDOM > _MAX_NAME:
        name = name[1:]
    return f'.{name}.'


def json_bytes(value: Any, indent: Optional[int] = None) -> bytes:
    """A value as JSON in UTF-8.

    Letters of all languages stay as they are. A byte of a file's name that is no UTF-8,
    which Python has as a surrogate, is escaped: readers get the same name.

    Args:
        value: The value.
        indent: Of the lines. None: there is one.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text.encode('utf-8', 'backslashreplace')


def leads_below(name: str) -> bool:
    """Whether a name is the path of a file below whatever folder it is put behind."""
    path = PurePath(name)
    return bool(path.parts) and not path.anchor and '..' not in path.parts


def write_folder(out: Path, files: Iterable[Tuple[str, bytes]]) -> None:
    """Write a folder of files, all or none.

    They go to a hidden folder ``.NAME.*`` beside ``out``, which then takes its name.

    Args:
        out: The folder, which must not be there yet.
        files: Paths below it, and contents, one after the other.

    Raises:
        OSError: If the disk does not take it. Nothing is left behind, nor is it if reading
            ``files`` fails.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=_unfinished(out)))
    try:
        for name, content in files:
            write_bytes(unfinished / name, content)
        unfinished.chmod(0o755)
        os.rename(unfinished, out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def read_label_png(content: bytes, name: str) -> np.ndarray:
    """Labels ``(H, W)`` uint8 of a gray or a palette PNG, whose pixels are the labels.

    Args:
        content: Of the file.
        name: Of the file, for the errors.

    Raises:
        ValueError: If it is no whole PNG, or a picture.
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f'{name} is no whole PNG: {error}') from error
    if image.mode not in ('P', 'L'):
        raise ValueError(
            f'{name} is a picture ({image.mode}), not a PNG of labels of 8 bits'
        )
    return np.asarray(image)


def palette_png(mask: np.ndarray, palette: Sequence[Sequence[int]]) -> bytes:
    """A mask as a palette PNG, the format of PASCAL VOC: pixels are the labels.

    Args:
        mask: Dense labels ``(H, W)``, uint8.
        palette: RGB colours, in 0..255, of the labels from 0 on; the labels beyond them
            are black.
    """
    image = Image.fromarray(np.ascontiguousarray(mask, np.uint8))
    # all 256: Pillow stores as many bits per pixel as the palette needs
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(palette)] = palette
    image.putpalette(colors.flatten().tolist())
    return _saved(image)


def png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG file.

    Args:
        pixels: uint8, gray ``(H, W)`` or RGB ``(H, W, 3)``.
    """
    return _saved(Image.fromarray(pixels))


def _saved(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, 'PNG')
    return buffer.getvalue()
