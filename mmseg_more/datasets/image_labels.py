"""Image labels from files: JSON, CSV, COCO instances, VOC annotations.

Every reader returns ``{image id: [class name, ...]}`` and says in its errors which file
is wrong, where, and what would be right. No reader unpickles anything.
"""

import csv
import difflib
import io
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Callable, Container, Dict, Iterable, List, Sequence, Set, Tuple, Union

ImageLabels = Dict[str, List[str]]
CSV_HEADER = ['image', 'labels']
CSV_SEPARATOR = ';'
MAX_ENTRIES = 2_000_000
"""Images that a JSON or CSV file may list: more take minutes, and gigabytes of memory."""


def name_few(names: Iterable[str], count: int = 3) -> str:
    """The first names, and how many there are beyond them."""
    names = list(names)
    shown = ', '.join(repr(name) for name in names[:count])
    return shown + (f' and {len(names) - count} more' if len(names) > count else '')


def read_label_file(path: Union[str, Path]) -> ImageLabels:
    """Read the image labels of a dataset.

    * ``.json``: an object ``{"ID": ["class", ...], ...}``, or COCO instances;
    * ``.csv``: a header ``image,labels`` and rows ``ID,class;class``.

    Args:
        path: The file. An ID may carry the image's suffix.

    Returns:
        Class names of every image the file lists; an empty list for an image
            without any class.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, malformed, or lists more than
            ``MAX_ENTRIES`` images.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'the label file {path} does not exist; correct '
            '`label_file`, which is relative to `data_root`'
        )
    readers = {'.json': _read_json, '.csv': _read_csv}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f'the label file {path} must be .json or .csv (pickled labels '
            'are not read: `python tools/dataset_converters/voc.py` converts those of VOC)'
        )
    labels = readers[path.suffix.lower()](path)
    for image_id, names in labels.items():
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ValueError(
                f'{path}, image {image_id!r}: expected a list of class names, got '
                f'{str(names)[:80]!r}'
            )
        if not all(map(str.strip, names)):
            raise ValueError(
                f'{path}, image {image_id!r}: an empty class name in {names!r}; remove it '
                '(an image of no class has an empty list)'
            )
    return labels


def read_text(path: Path) -> str:
    """The text of a label file, which Windows may have begun with a byte order mark."""
    try:
        return path.read_bytes().decode('utf-8-sig')  # line ends as they are
    except UnicodeDecodeError as error:
        raise ValueError(
            f'the label file {path} is not text in UTF-8 ({error}); save it as UTF-8'
        ) from error


def check_entries(path: Path, count: int) -> None:
    """Raise ValueError if a label file has more entries than ``MAX_ENTRIES``."""
    if count > MAX_ENTRIES:
        raise ValueError(
            f'the label file {path} has {count} entries, more than the {MAX_ENTRIES} that '
            'are read: keep those of the images that are used'
        )


def _unique_keys(pairs: List[Tuple[str, object]]) -> dict:
    """A dict of the pairs.

    Raises:
        ValueError: If a key comes twice, of which a dict would keep the last value.
    """
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = [
            key for key, count in Counter(key for key, _ in pairs).items() if count > 1
        ]
        raise ValueError(f'listed more than once: {name_few(twice)}')
    return result


def _read_json(path: Path) -> ImageLabels:
    content = read_json_object(path)
    if {'images', 'annotations', 'categories'} <= content.keys():
        return coco_labels(content, path, lambda name: Path(name).stem)
    return content


def read_json_object(path: Path) -> dict:
    """The object that a JSON label file holds.

    Raises:
        ValueError: If it is malformed, holds a key twice, or no object.
    """
    text = read_text(path)
    if '"annotations"' not in text:  # no COCO instances, which have many keys per image
        check_entries(path, text.count(':'))
    try:
        content = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise ValueError(f'the label file {path} is not valid JSON: {error}') from error
    except RecursionError as error:
        raise ValueError(
            f'the label file {path} is nested too deeply: it must hold an object '
            '{"ID": ["class", ...]}'
        ) from error
    except ValueError as error:  # of _unique_keys
        raise ValueError(f'the label file {path}: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(
            f'the label file {path} must hold an object '
            '{"ID": ["class", ...]}, not a '
            f'{type(content).__name__}'
        )
    return content


def coco_labels(
    content: dict, path: Path, image_key: Callable[[str], str] = str
) -> ImageLabels:
    """Class names per image of COCO instances, in the order of the categories' ids.

    Args:
        content: ``images``, ``annotations`` and ``categories``.
        path: Where it was read, for the errors.
        image_key: What an image is called, of its ``file_name``.

    Raises:
        ValueError: If it is malformed, or two images are called the same.
    """
    try:
        names = {entry['id']: entry['name'] for entry in content['categories']}
        files = _unique_keys(
            [(entry['id'], image_key(entry['file_name'])) for entry in content['images']]
        )
        present: Dict[int, Set[int]] = {image_id: set() for image_id in files}
        for entry in content['annotations']:
            present[entry['image_id']].add(entry['category_id'])
        return _unique_keys(
            [
                (files[image_id], [names[category] for category in sorted(categories)])
                for image_id, categories in present.items()
            ]
        )
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a COCO instances file: {type(error).__name__} {error}'
        ) from error
    except ValueError as error:  # of _unique_keys
        raise ValueError(f'the label file {path}: images are {error}') from error


def _read_csv(path: Path) -> ImageLabels:
    labels: ImageLabels = {}
    text = read_text(path)
    check_entries(path, text.count('\n'))
    try:
        rows = list(csv.reader(io.StringIO(text, newline=''), strict=True))
    except csv.Error as error:
        raise ValueError(f'the label file {path} is not valid CSV: {error}') from error
    if not rows or [cell.strip() for cell in rows[0]] != CSV_HEADER:
        raise ValueError(
            f'the label file {path} must begin with the line '
            f'{",".join(CSV_HEADER)!r}, got {rows[0] if rows else "nothing"}: a comma '
            f'stands behind the image, {CSV_SEPARATOR!r} between its classes'
        )
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != 2 or not row[0].strip():
            raise ValueError(
                f'{path}, row {number}: expected an image and its classes '
                f'separated by {CSV_SEPARATOR!r}, got {row}'
            )
        image_id, names = row[0].strip(), row[1].strip()
        if image_id in labels:
            raise ValueError(f'{path}, row {number}: {image_id!r} is listed more than once')
        labels[image_id] = [n.strip() for n in names.split(CSV_SEPARATOR)] if names else []
    return labels


def read_voc_annotation(path: Union[str, Path], with_difficult: bool = True) -> List[str]:
    """Names of the objects in one VOC XML annotation.

    Args:
        path: The file.
        with_difficult: Whether objects that are marked as difficult count.

    Raises:
        ValueError: If the file is malformed.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f'the annotation {path} is not valid XML: {error}') from error
    objects = [
        item
        for item in root.iterfind('object')
        if with_difficult or (item.findtext('difficult') or '0').strip() == '0'
    ]
    names = [(item.findtext('name') or '').strip() for item in objects]
    if not all(names):
        raise ValueError(f'{path}: an object without a class name')
    return names


def label_indices(
    names: Iterable[str], classes: Sequence[str], unused: Container[str], where: str
) -> List[int]:
    """Indices (0-based, without background) of an image's classes, sorted and unique.

    Args:
        names: Class names of the image.
        classes: The K foreground classes.
        unused: Classes that may occur but are left out.
        where: What the names were read from, for the message.

    Raises:
        ValueError: If a name is none of both.
    """
    indices = set()
    for name in names:
        if name in classes:
            indices.add(classes.index(name))
        elif name not in unused:
            close = [known for known in classes if known.lower() == name.lower()]
            close = close or difflib.get_close_matches(name, classes, cutoff=0.5)
            hint = (
                f'did you mean {name_few(close)}?'
                if close
                else f'the classes are {name_few(classes, 10)}'
            )
            raise ValueError(f'{where}: unknown class {name!r}; {hint}')
    return sorted(indices)
