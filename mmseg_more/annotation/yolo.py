"""YOLO's segmentation labels: a polygon per part of a class, holes by cuts."""

import json
from typing import Iterator, List, Tuple

import numpy as np

from ..localization.pseudo_label import IGNORE_INDEX
from .labelme import order_csv
from .polygons import outlines
from .source import MaskSource


def yolo_files(source: MaskSource) -> Iterator[Tuple[str, bytes]]:
    """``labels/NAME.txt`` per image, ``data.yaml``, and ``order.csv`` with the scores.

    The first class is 0: the format has no background, and no ignored pixels.
    """
    rows: List[Tuple[str, object]] = []
    for mask in source:
        lines = [
            _line(region.label - 1, polygon, mask.labels.shape)
            for region in mask.regions
            if region.label != IGNORE_INDEX
            for polygon in outlines(region.pixels)
        ]
        yield f'labels/{mask.name}.txt', ''.join(lines).encode()
        rows.append((mask.image, '' if mask.score is None else mask.score))
    names = ''.join(
        # a JSON string is a YAML string
        f'  {index}: {json.dumps(name, ensure_ascii=False)}\n'
        for index, name in enumerate(source.classes[1:])
    )
    yield 'data.yaml', f'train: images\nval: images\nnames:\n{names}'.encode()
    yield 'order.csv', order_csv(rows)


def _line(index: int, polygon: np.ndarray, size: Tuple[int, ...]) -> str:
    """A polygon with coordinates as shares of width and height."""
    # a quarter of a pixel: readers that cut off and readers that round get the same pixel
    shares = (polygon + 0.25) / np.array(size[::-1])
    return f'{index} {" ".join(f"{share:.8f}" for share in shares.ravel())}\n'
