"""CVAT's "Segmentation mask 1.1": coloured PNGs and a map of the colours."""

import io
from typing import Dict, Iterator, List, Tuple

import numpy as np
from PIL import Image

from .source import IGNORED, IGNORED_NAME, MaskSource

Color = Tuple[int, int, int]


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
        buffer = io.BytesIO()
        Image.fromarray(table[mask.labels]).save(buffer, 'PNG')
        yield f'SegmentationClass/{mask.name}.png', buffer.getvalue()
    listed = dict(enumerate(names))
    if source.with_ignored:
        listed[IGNORED] = IGNORED_NAME
    lines = ['# label:color_rgb:parts:actions']
    for label, name in listed.items():
        red, green, blue = colors[label]
        lines.append(f'{name}:{red},{green},{blue}::')
    yield 'labelmap.txt', ('\n'.join(lines) + '\n').encode()
    yield (
        'ImageSets/Segmentation/default.txt',
        ('\n'.join(source.names()) + '\n').encode(),
    )


def _distinct_colors(source: MaskSource) -> Dict[int, Color]:
    """A colour of its own for each label; that of the palette where it is still free."""
    colors: Dict[int, Color] = {0: (0, 0, 0)}
    for label in [*range(1, len(source.classes)), IGNORED]:
        wanted: List[Color] = []
        if label < len(source.palette):
            red, green, blue = source.palette[label]
            wanted.append((red, green, blue))
        wanted.extend(_voc_color(index) for index in [label, *range(1, 256)])
        taken = set(colors.values())
        colors[label] = next(color for color in wanted if color not in taken)
    return colors


def _voc_color(label: int) -> Color:
    """Colour of a label in PASCAL VOC: its bits, dealt out to the three channels."""
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (label >> bit & 1) << (7 - bit // 3)
    return channels[0], channels[1], channels[2]
