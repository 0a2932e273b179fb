"""CVAT's "Segmentation mask 1.1": coloured PNGs and a map of the colours."""

import io
import zipfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import numpy as np
from PIL import Image

from ..datasets.image_labels import name_few
from ..datasets.image_level_dataset import voc_palette
from ..files import png
from ..localization.pseudo_label import IGNORE_INDEX
from .corrected import BACKGROUND, MAX_PIXELS, CorrectedMask, ImportSettings
from .source import IGNORED_NAME, MaskSource
from .voc import FOLDER

Color = Tuple[int, int, int]
COLORS_FILE = 'labelmap.txt'


def cvat_files(source: MaskSource) -> Iterator[Tuple[str, bytes]]:
    """The content of the archive: ``labelmap.txt``, list and PNGs.

    Raises:
        ValueError: If a class has a name that ``labelmap.txt`` cannot hold.
    """
    names = source.classes
    unfit = [
        name
        for name in names
        if ':' in name or name.startswith('#') or name != name.strip() or '\n' in name
    ]
    if unfit:
        raise ValueError(
            f'class {unfit[0]!r} cannot stand in a labelmap.txt, in which ":" ends a name '
            'and "#" begins a comment: rename it, or export to coco'
        )
    colors = _distinct_colors(source)
    table = np.zeros((256, 3), np.uint8)
    for label, color in colors.items():
        table[label] = color
    for mask in source:
        yield f'{FOLDER}/{mask.name}.png', png(table[mask.labels])
    listed = dict(enumerate(names))
    if source.with_ignored:
        listed[IGNORE_INDEX] = IGNORED_NAME
    lines = ['# label:color_rgb:parts:actions']
    for label, name in listed.items():
        red, green, blue = colors[label]
        lines.append(f'{name}:{red},{green},{blue}::')
    yield COLORS_FILE, ('\n'.join(lines) + '\n').encode()
    yield (
        'ImageSets/Segmentation/default.txt',
        ('\n'.join(source.names()) + '\n').encode(),
    )


def _distinct_colors(source: MaskSource) -> Dict[int, Color]:
    """A colour of its own for each label; that of the palette where it is still free."""
    of_voc = [(red, green, blue) for red, green, blue in voc_palette(256)]
    colors: Dict[int, Color] = {0: (0, 0, 0)}
    for label in [*range(1, len(source.classes)), IGNORE_INDEX]:
        wanted: List[Color] = []
        if label < len(source.palette):
            red, green, blue = source.palette[label]
            wanted.append((red, green, blue))
        wanted.extend(of_voc[index] for index in [label, *range(1, 256)])
        taken = set(colors.values())
        colors[label] = next(color for color in wanted if color not in taken)
    return colors


def read_cvat(path: Path, settings: ImportSettings) -> Iterator[CorrectedMask]:
    """The masks of a "Segmentation mask 1.1", each colour by its name in ``labelmap.txt``.

    Args:
        path: The archive, or the folder that it was unpacked to.
        settings: What is known beside it.

    Raises:
        FileNotFoundError: If there is nothing there.
        ValueError: If it is no such archive, a mask does not decode, or has a colour
            without a name or with one that is no class.
    """
    below = f'{FOLDER}/'
    with closing(_Archive(path)) as files:
        names = _named_colors(files.read(COLORS_FILE), f'{path}, {COLORS_FILE}')
        for file in files.names:
            if file.startswith(below) and file.lower().endswith('.png'):
                name = file[len(below) : -len('.png')]
                labels = _labels(files.read(file), names, settings, f'{path}, {file}')
                yield CorrectedMask(name, labels)


class _Archive:
    """Files of a zip archive, or of the folder that it was unpacked to."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(f'{path} does not exist')
        self.path = path
        self.archive: Optional[zipfile.ZipFile] = None
        if path.is_dir():
            found = [file for file in path.rglob('*') if file.is_file()]
            self.names = sorted(file.relative_to(path).as_posix() for file in found)
        else:
            self.archive = self._open()
            self.names = sorted(self.archive.namelist())
        if COLORS_FILE not in self.names:
            self.close()
            raise ValueError(
                f'{path} holds no {COLORS_FILE}: export the task from CVAT as '
                '"Segmentation mask 1.1"'
            )

    def read(self, name: str) -> bytes:
        if self.archive is None:
            return (self.path / name).read_bytes()
        if self.archive.getinfo(name).file_size > MAX_PIXELS:
            raise ValueError(f'{self.path}, {name}: too large for a mask')
        try:
            return self.archive.read(name)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
            raise ValueError(f'{self.path}, {name}: cannot be read ({error})') from error

    def close(self) -> None:
        if self.archive is not None:
            self.archive.close()

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except zipfile.BadZipFile as error:
            raise ValueError(f'{self.path} is no whole zip archive: {error}') from error


def _named_colors(content: bytes, where: str) -> Dict[Color, str]:
    """Names by colour, from lines ``NAME:RED,GREEN,BLUE:PARTS:ACTIONS``."""
    names: Dict[Color, str] = {}
    for line in content.decode('utf-8-sig', errors='replace').splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        name, *others = line.split(':')
        numbers = others[0].split(',') if others else []
        if len(numbers) != 3 or not all(n.strip().isdecimal() for n in numbers):
            raise ValueError(f'{where}: expected NAME:RED,GREEN,BLUE::, got {line!r}')
        red, green, blue = map(int, numbers)
        if (red, green, blue) in names:
            raise ValueError(
                f'{where}: {names[red, green, blue]!r} and {name!r} have one colour; give '
                'them different ones in CVAT'
            )
        names[red, green, blue] = name
    return names


def _labels(
    content: bytes, names: Dict[Color, str], settings: ImportSettings, where: str
) -> np.ndarray:
    """Labels ``(H, W)`` of a coloured PNG."""
    try:
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f'{where} is no whole PNG: {error}') from error
    packed = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    values, where_value = np.unique(packed, return_inverse=True)
    labels = np.zeros(len(values), np.uint8)
    for index, value in enumerate(values.tolist()):
        color = (value >> 16, value >> 8 & 255, value & 255)
        name = names.get(color, BACKGROUND if color == (0, 0, 0) else None)
        if name is None:
            raise ValueError(
                f'{where} has the colour {color}, of which {COLORS_FILE} says nothing (it '
                f'names {name_few(names.values())})'
            )
        label = settings.label(name, where)
        labels[index] = settings.uncovered if label == 0 else label
    return labels[where_value.reshape(packed.shape)]
