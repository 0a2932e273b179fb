"""CVAT's "Segmentation mask 1.1": coloured PNGs and a map of the colours."""

from typing import Dict, Iterator, List, Tuple

import numpy as np

from ..datasets.image_level_dataset import voc_palette
from ..files import png
from ..localization.pseudo_label import IGNORE_INDEX
from .source import IGNORED_NAME, MaskSource

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
        yield f'SegmentationClass/{mask.name}.png', png(table[mask.labels])
    listed = dict(enumerate(names))
    if source.with_ignored:
        listed[IGNORE_INDEX] = IGNORED_NAME
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
