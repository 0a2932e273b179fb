"""labelme: a JSON file per image, with shapes of the kind "mask"."""

import base64
import csv
import io
from typing import Iterator, List, Tuple

import numpy as np

from ..files import json_bytes, png
from .source import MaskSource, Region

VERSION = '5.3.0'
"""The first labelme whose shapes can be masks."""


def labelme_files(source: MaskSource) -> Iterator[Tuple[str, bytes]]:
    """``NAME.json`` per image, to lie beside it, and ``order.csv`` with the scores."""
    rows: List[Tuple[str, object]] = []
    for mask in source:
        height, width = mask.labels.shape
        if source.prefix is None:
            path = mask.image.rsplit('/', 1)[-1]
        else:
            path = source.prefix + mask.image
        content = dict(
            version=VERSION,
            flags={},
            shapes=[_shape(region) for region in mask.regions],
            imagePath=path,
            imageData=None,
            imageHeight=height,
            imageWidth=width,
        )
        yield f'{mask.name}.json', json_bytes(content)
        rows.append((mask.image, '' if mask.score is None else mask.score))
    yield 'order.csv', order_csv(rows)


def order_csv(rows: List[Tuple[str, object]]) -> bytes:
    """A table of images, the least certain first, for a tool that keeps no order."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(('image', 'score'))
    writer.writerows(rows)
    return buffer.getvalue().encode('utf-8', 'backslashreplace')


def _shape(region: Region) -> dict:
    """The region as its box, last row and column included, and the PNG of what is in it."""
    rows, columns = (np.flatnonzero(region.pixels.any(axis)) for axis in (1, 0))
    top, bottom = int(rows[0]), int(rows[-1])
    left, right = int(columns[0]), int(columns[-1])
    inside = region.pixels[top : bottom + 1, left : right + 1]
    score = '' if region.score is None else f'score {region.score}'
    return dict(
        label=region.name,
        points=[[left, top], [right, bottom]],
        shape_type='mask',
        mask=base64.b64encode(png(inside.astype(np.uint8))).decode(),
        flags={},
        group_id=None,
        description=score,
    )
