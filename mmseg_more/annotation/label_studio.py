"""Label Studio: tasks with predictions of its brush, whose run lengths are its own."""

import json
from typing import Any, Dict, Iterator, List, Tuple
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from .source import MaskSource

LOCAL_FILES = '/data/local-files/?d='
"""Where Label Studio serves files of its own disk."""
_LENGTH_BITS = (3, 4, 8, 16)
_WORD_BITS = 8
_FROM, _TO = 'mask', 'image'


def label_studio_files(source: MaskSource) -> Iterator[Tuple[str, bytes]]:
    """``tasks.json`` to import, and ``labels.xml``, the labelling interface it is for."""
    prefix = LOCAL_FILES if source.prefix is None else source.prefix
    tasks: List[dict] = []
    for mask in source:
        height, width = mask.labels.shape
        results = []
        for region in mask.regions:
            result = dict(
                id=f'{len(tasks)}-{region.label}',
                type='brushlabels',
                from_name=_FROM,
                to_name=_TO,
                original_width=width,
                original_height=height,
                image_rotation=0,
                value=dict(
                    format='rle',
                    rle=list(brush_runs(region.pixels)),
                    brushlabels=[region.name],
                ),
            )
            if region.score is not None:
                result['score'] = region.score
            results.append(result)
        prediction: Dict[str, Any] = dict(model_version='mmseg_more', result=results)
        if mask.score is not None:
            prediction['score'] = mask.score
        data = {_TO: prefix + quote(mask.image), 'name': mask.name}
        tasks.append(dict(data=data, predictions=[prediction]))
    yield 'tasks.json', json.dumps(tasks, ensure_ascii=False).encode()
    labels = [
        f'    <Label value={quoteattr(name)}/>' for name in source.named_labels().values()
    ]
    lines = [
        '<View>',
        f'  <Image name="{_TO}" value="${_TO}" zoom="true"/>',
        f'  <BrushLabels name="{_FROM}" toName="{_TO}">',
        *labels,
        '  </BrushLabels>',
        '</View>',
    ]
    yield 'labels.xml', ('\n'.join(lines) + '\n').encode()


def brush_runs(pixels: np.ndarray) -> bytes:
    """The run lengths in which Label Studio keeps what its brush has painted.

    Bits: the number of values (32), bits of a value less 1 (5), bits of the four kinds of
    length less 1 (4 each); then per run 1, the kind of its length (2), its length less 1,
    and its value. There are four values per pixel, red, green, blue and opacity.

    Args:
        pixels: Boolean ``(H, W)``.
    """
    values = pixels.ravel().astype(np.uint8) * 255
    begins = np.flatnonzero(np.diff(values, prepend=values[:1] ^ 1))
    lengths = 4 * np.diff(begins, append=len(values))
    bits = [f'{4 * len(values):032b}', f'{_WORD_BITS - 1:05b}']
    bits.extend(f'{size - 1:04b}' for size in _LENGTH_BITS)
    for value, length in zip(values[begins].tolist(), lengths.tolist()):
        while length > 0:
            run = min(length, 1 << _LENGTH_BITS[-1])
            kind = next(i for i, size in enumerate(_LENGTH_BITS) if run <= 1 << size)
            bits.append(f'1{kind:02b}{run - 1:0{_LENGTH_BITS[kind]}b}{value:08b}')
            length -= run
    text = ''.join(bits)
    text += '0' * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, 'big')
