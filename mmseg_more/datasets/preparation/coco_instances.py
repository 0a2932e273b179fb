"""A COCO instances file, read in passing: only what masks are drawn from is kept."""

import math
from array import array
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from rich.console import Console
from rich.progress import open as open_with_progress

from ...image_files import without_suffix
from ..image_labels import label_indices, name_few

MIN_POINTS = 3
"""A polygon of fewer points has no area."""


class Region(NamedTuple):
    """One annotation."""

    label: int
    """Value in a mask: k for the k-th class, from 1."""
    is_crowd: bool
    """Whether it surrounds many objects, rather than one."""
    polygons: Tuple[array, ...]
    """Outlines ``x, y, x, y, ...`` in pixels, float64; together they are the region."""
    counts: Optional[array]
    """Lengths of the runs outside and inside, in turns, column by column; None where the
    region is given by polygons."""


class InstancesImage(NamedTuple):
    """One image and its annotations."""

    name: str
    """Name of its file without suffix, and without folder unless these were asked for."""
    size: Tuple[int, int]
    """``(H, W)`` in pixels."""
    regions: List[Region]
    """In the order of the file; some may be empty."""


def read_instances(
    path: Path,
    classes: Sequence[str],
    other_labels: Mapping[str, int] = MappingProxyType({}),
    with_folders: bool = False,
) -> List[InstancesImage]:
    """The images of an instances file, with compact regions.

    Args:
        path: The JSON file.
        classes: Names of the K classes; categories may have any ids and order.
        other_labels: Values in a mask by name, of categories that are none of these.
        with_folders: Whether images are named with the folders of ``file_name``.

    Returns:
        In the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If ijson is missing; says what to install.
        ValueError: If it is no instances file, or an entry is malformed; names the entry.
    """
    if not path.is_file():
        raise FileNotFoundError(f'the instances file {path} does not exist')
    with _errors_of(path):
        labels = {
            entry['id']: other_labels[entry['name']]
            if entry['name'] in other_labels
            else 1 + label_indices([entry['name']], classes, (), str(path))[0]
            for entry in _part(path, 'categories')
        }
        images = {
            entry['id']: _image(path, entry, with_folders)
            for entry in _part(path, 'images')
        }
        _check_names(path, list(images.values()))
        num_regions = 0
        for entry in _annotations(path):
            num_regions += 1
            image = images.get(entry['image_id'])
            if image is None or entry['category_id'] not in labels:
                raise ValueError(
                    f'{path}, annotation {entry.get("id")}: no image {entry["image_id"]}, '
                    f'or no category {entry["category_id"]}'
                )
            where = f'{path}, annotation {entry.get("id")}'
            label = labels[entry['category_id']]
            image.regions.append(_region(entry, label, image.size, where))
    if not num_regions:
        raise ValueError(
            f'{path} has no annotations: give instances_val2014.json or its like, not a '
            'list of images'
        )
    return list(images.values())


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """What a malformed file leads to, as errors that name it."""
    ijson = _import_ijson()
    try:
        yield
    except (ijson.JSONError, UnicodeDecodeError) as error:
        problem = str(error).partition('\n')[0]  # ijson draws the place beneath it
        raise ValueError(
            f'{path} is not valid JSON: {problem.strip()}; download it again'
        ) from error
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f'{path} is not a COCO instances file: {type(error).__name__} {error}'
        ) from error


def _import_ijson() -> Any:
    try:
        import ijson
    except ImportError as error:
        raise ImportError(
            'instances files are read by ijson: pip install "mmseg_more[coco]", or '
            'pip install ijson pycocotools'
        ) from error
    return ijson


def _part(path: Path, key: str) -> List[dict]:
    """A part of the file that fits into memory: its images, or its categories."""
    with open(path, 'rb') as file:
        part = next(_import_ijson().items(file, key, use_float=True), None)
    if not isinstance(part, list):
        raise ValueError(f'{path} is not a COCO instances file: it has no list {key!r}')
    return part


def _annotations(path: Path) -> Iterator[dict]:
    """The entries of the file's longest part, one after the other."""
    console = Console(stderr=True)
    with open_with_progress(path, 'rb', description='annotations', console=console) as file:
        yield from _import_ijson().items(file, 'annotations.item', use_float=True)


def _image(path: Path, entry: dict, with_folders: bool) -> InstancesImage:
    file_name = entry['file_name']
    name = without_suffix(file_name) if with_folders else Path(file_name).stem
    size = (entry['height'], entry['width'])
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f'{path}, image {entry["id"]}: a size of {size} pixels')
    if not name or name.startswith('.') or '\0' in name:
        raise ValueError(f'{path}, image {entry["id"]}: the name {entry["file_name"]!r}')
    return InstancesImage(name, size, [])


def _check_names(path: Path, images: List[InstancesImage]) -> None:
    """Raise ValueError if two images would share a mask."""
    names = sorted(image.name for image in images)
    twice = sorted({name for name, following in zip(names, names[1:]) if name == following})
    if twice:
        raise ValueError(f'{path} has more than one image of a name: {name_few(twice)}')


def _region(entry: dict, label: int, size: Tuple[int, int], where: str) -> Region:
    content = entry['segmentation']
    is_crowd = bool(entry.get('iscrowd', 0))
    if isinstance(content, dict):
        if list(content['size']) != list(size):
            raise ValueError(f'{where}: a region of {content["size"]}, its image is {size}')
        counts = content['counts']
        if isinstance(counts, str):
            counts = decompress_counts(counts)
        if min(counts, default=0) < 0 or sum(counts) != math.prod(size):
            raise ValueError(
                f'{where}: runs of {sum(counts)} pixels, its image has {math.prod(size)}'
            )
        return Region(label, is_crowd, (), array('q', counts))
    polygons = tuple(array('d', polygon) for polygon in content)
    for polygon in polygons:
        _check_polygon(polygon, size, where)
    return Region(
        label,
        is_crowd,
        tuple(polygon for polygon in polygons if len(polygon) >= 2 * MIN_POINTS),
        None,
    )


def _check_polygon(polygon: array, size: Tuple[int, int], where: str) -> None:
    """Raise ValueError if it has half a point, or one far away from the image.

    pycocotools walks along the edges: where they are very long, it crashes.
    """
    if len(polygon) % 2:
        raise ValueError(f'{where}: a polygon of {len(polygon)} numbers, not of pairs')
    reach = 2 * max(size)
    if polygon and not -reach <= min(polygon) <= max(polygon) <= reach:
        raise ValueError(f'{where}: a polygon that leaves its image of {size} by far')


def decompress_counts(text: str) -> List[int]:
    """The run lengths of COCO's compressed form, which pycocotools keeps to itself.

    Each number is written in groups of 5 bits, the lowest first, as characters from 48 on;
    the bit 32 says that more follow, the bit 16 of the last group is the sign. From the
    fourth number on it is the difference to the last but one.
    """
    counts: List[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            if len(counts) > 2:
                value += counts[-2]
            counts.append(value)
            value = shift = 0
    return counts
