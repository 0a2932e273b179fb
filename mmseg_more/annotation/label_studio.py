"""Label Studio: tasks with predictions of its brush, whose run lengths are its own."""

import json
import math
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

import numpy as np

from ..files import json_bytes
from ..image_files import IMAGE_SUFFIXES
from .corrected import CorrectedMask, ImportSettings, check_number_of_pixels
from .drawn_shapes import ellipse_pixels, polygon_pixels, rectangle_corners
from .source import MaskSource

LOCAL_FILES = '/data/local-files/?d='
"""Where Label Studio serves files of its own disk."""
_UPLOADED = re.compile(r'/data/upload/\d+/[0-9a-f]{8}-')
# regions whose class is a result of its own, of the type "labels" and with the same id;
# other results (choices, texts) are of no pixels
_BARE_REGIONS = frozenset(
    (
        'bitmask',
        'brush',
        'ellipse',
        'keypoint',
        'magicwand',
        'polygon',
        'rectangle',
        'vector',
    )
)
_LENGTH_BITS = (3, 4, 8, 16)
_WORD_BITS = 8
_FROM, _TO = 'mask', 'image'
_FAR = 1e6  # percent, or degrees: no region reaches so far


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
        data = {
            _TO: prefix + quote(mask.image, errors='surrogateescape'),
            'name': mask.name,
        }
        tasks.append(dict(data=data, predictions=[prediction]))
    yield 'tasks.json', json_bytes(tasks)
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


def brush_pixels(runs: bytes, size: Tuple[int, int]) -> np.ndarray:
    """What :func:`brush_runs` describes: boolean ``(H, W)``, opaque by half at least.

    Args:
        runs: The run lengths, also with values one by one, as Label Studio has them.
        size: ``(H, W)``.

    Raises:
        ValueError: If they are cut off, or not of that size.
    """
    bits = ''.join(f'{byte:08b}' for byte in runs)
    at = 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise ValueError(f'they end after {len(runs)} bytes, in the middle')
        return int(bits[at - count : at], 2)

    num_values, word_bits = read(32), read(5) + 1
    if num_values != 4 * size[0] * size[1]:
        raise ValueError(f'they are of {num_values // 4} pixels')
    length_bits = [read(4) + 1 for _ in _LENGTH_BITS]
    values: List[int] = []
    lengths: List[int] = []
    missing = num_values
    while missing > 0:
        is_run, length = read(1), read(length_bits[read(2)]) + 1
        missing -= length
        if is_run:
            values.append(read(word_bits))
            lengths.append(length)
        else:
            values.extend(read(word_bits) for _ in range(length))
            lengths.extend([1] * length)
    if missing:
        raise ValueError(f'they are of {-missing} values more than they say')
    opacity = np.repeat(values, lengths).reshape(*size, 4)[..., 3]
    return 2 * opacity >= 1 << word_bits


def read_label_studio(path: Path, settings: ImportSettings) -> Iterator[CorrectedMask]:
    """The tasks of an export "JSON": of each its latest annotation, not the predictions.

    Annotations that were cancelled do not count, and a task without any other is not
    annotated. Regions are brush strokes, polygons, rectangles and ellipses. Where those of
    two classes overlap, the later one lies on top.

    Args:
        path: The JSON file.
        settings: What is known beside it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such export, or a region is of another kind, without a
            class, or of an unknown one.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    try:
        tasks = json.loads(path.read_text(encoding='utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(tasks, list):
        raise ValueError(f'{path} is no list of tasks: export from Label Studio as "JSON"')
    for number, task in enumerate(tasks):
        where = f'{path}, task {number + 1}'
        try:
            yield _task_mask(task, settings, where)
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(
                f'{where} is not as Label Studio exports it: {type(error).__name__} '
                f'{error}; export as "JSON", not "JSON-MIN"'
            ) from error


def _task_mask(task: dict, settings: ImportSettings, where: str) -> CorrectedMask:
    name = _task_name(task['data'], settings, where)
    annotations = [one for one in task['annotations'] if not one.get('was_cancelled')]
    if not annotations:
        return CorrectedMask(name, None)
    latest = max(annotations, key=_time_of)
    labels: Optional[np.ndarray] = None
    regions = [one for one in latest['result'] if one['type'].endswith('labels')]
    named = {region.get('id') for region in regions}
    for result in latest['result']:
        if result['type'] in _BARE_REGIONS and result.get('id') not in named:
            raise ValueError(f'{where} ({name!r}) has a {result["type"]} without a class')
    for region in regions:
        size = (region['original_height'], region['original_width'])
        check_number_of_pixels(size, where)
        if labels is None:
            labels = np.full(size, settings.uncovered, np.uint8)
        if labels.shape != size or region.get('image_rotation'):
            raise ValueError(f'{where} ({name!r}) has regions of another size, or turned')
        names = region['value'][region['type']]
        if len(names) != 1:
            raise ValueError(f'{where} ({name!r}) has a region of {len(names)} classes')
        pixels = _region_pixels(region, size, f'{where} ({name!r})')
        labels[pixels] = settings.label(names[0], where)
    if labels is None:
        labels = np.full(settings.image_size(name), settings.uncovered, np.uint8)
    return CorrectedMask(name, labels)


def _region_pixels(region: dict, size: Tuple[int, int], where: str) -> np.ndarray:
    """Boolean ``(H, W)`` of a region, whose lengths are percent of the image's sides."""
    value = region['value']
    if 'rle' in value:
        try:
            return brush_pixels(bytes([*value['rle']]), size)
        except ValueError as error:
            raise ValueError(
                f'{where}: run lengths that cannot be read: {error}, the image '
                f'has {size[0]}x{size[1]} pixels'
            ) from error
    sides = np.array(size[::-1]) / 100
    if 'points' in value and value.get('closed', True):
        corners = _percent(value['points'], where)
        if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
            raise ValueError(f'{where}: a polygon of {len(value["points"])} points')
        return polygon_pixels(corners * sides, size)

    def pixels_at(across: str, down: str) -> np.ndarray:
        return _percent((value[across], value[down]), where) * sides

    turned = _percent(value.get('rotation', 0), where)
    if {'x', 'y', 'width', 'height'} <= value.keys():
        corners = rectangle_corners(
            pixels_at('x', 'y'), pixels_at('width', 'height'), float(turned)
        )
        return polygon_pixels(corners, size)
    if {'x', 'y', 'radiusX', 'radiusY'} <= value.keys():
        radii = pixels_at('radiusX', 'radiusY')
        return ellipse_pixels(pixels_at('x', 'y'), radii, float(turned), size)
    raise ValueError(
        f'{where} has a region of the kind {region["type"]!r}: only brush strokes, closed '
        'polygons, rectangles and ellipses are read'
    )


def _percent(numbers: Any, where: str) -> np.ndarray:
    """Numbers of a region, in percent or degrees, as an array."""
    try:
        array = np.array(numbers, float)
    except (TypeError, ValueError):
        array = np.array(math.nan)
    if not (np.abs(array) <= _FAR).all():
        raise ValueError(f'{where} has a region at {str(numbers)[:80]}')
    return array


def _task_name(data: Dict[str, Any], settings: ImportSettings, where: str) -> str:
    """Name of the image: ``name`` of the exported tasks, or else from the image's path."""
    if isinstance(data.get('name'), str):
        return data['name']
    for value in data.values():
        if isinstance(value, str) and value.lower().endswith(IMAGE_SUFFIXES):
            path = unquote(value)
            if settings.prefix is None:
                path = _UPLOADED.sub('', path.removeprefix(LOCAL_FILES))
            return settings.image_name(path)
    raise ValueError(f'{where} names no image: its data are {str(data)[:80]}')


def _time_of(annotation: dict) -> Tuple[str, int]:
    """When it was changed, in ISO 8601, and its number."""
    time = annotation.get('updated_at') or annotation.get('created_at') or ''
    return str(time), int(annotation.get('id') or 0)
