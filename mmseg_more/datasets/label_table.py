"""Image labels in a CSV file, as people and other programs write it."""

import ast
import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..image_files import IMAGE_SUFFIXES
from .image_labels import ImageLabels, check_entries, name_few, read_text

Row = List[str]

_DELIMITERS = ',;\t|'
_SEPARATORS = re.compile(r'[,;|]')
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_BROKEN = re.compile('[\n\r\0]')
_IMAGE = 'image'
_FILE_COLUMNS = frozenset(
    ('images', 'image_id', 'image_name', 'image_file', 'image_path', 'img', 'img_path')
    + ('file', 'filename', 'file_name', 'fname', 'filepath', 'file_path', 'path')
)
_NAME = 'name'  # of the image, or of the class
_WEAK_COLUMNS = frozenset(('', 'id', 'index', 'unnamed:_0'))  # of a table's rows, often
_IMAGE_COLUMNS = _FILE_COLUMNS | _WEAK_COLUMNS | {_IMAGE, _NAME}
_LABEL_COLUMNS = frozenset(
    ('label', 'labels', 'class', 'classes', 'category', 'categories', 'tag', 'tags')
)
_YES_NO = {
    **dict.fromkeys(('1', '1.0', 'true', 'yes', 'x'), True),
    **dict.fromkeys(('0', '0.0', 'false', 'no', ''), False),
}


def read_label_table(path: Path) -> Tuple[str, ImageLabels]:
    """Read a CSV file: the image, then its classes.

    The delimiter is a comma, semicolon, tab or bar. There may be a header. The classes are

    * in one cell, separated by a comma, semicolon or bar, or as a list of Python or JSON;
    * in several cells;
    * in a column called ``labels``, ``class`` or the like, among other ones;
    * a column each, with 0 and 1 (or no and yes).

    The image is in the first column, or in the one that the header calls ``image``,
    ``file_name`` or the like, where the first is called ``id`` or nothing. An image in
    several rows has the classes of all.

    Args:
        path: The file, UTF-8.

    Returns:
        How it was understood, and the class names by the image's name.

    Raises:
        ValueError: If it cannot be understood; says where.
    """
    delimiter, rows = _read_rows(path)
    header = rows[0][1] if _is_header([row for _, row in rows]) else None
    if header is not None:
        rows = rows[1:]
    image = 0 if header is None else _find_image(path, header)
    layout, names_in = _find_layout(path, header, image, [row for _, row in rows])
    labels: Dict[str, List[str]] = {}
    for number, row in rows:
        name = row[image] if image < len(row) else ''
        if not name:
            raise ValueError(f'{path}, row {number}: the name of the image is empty')
        try:
            names = names_in(row)
        except ValueError as error:  # of a list
            raise ValueError(f'{path}, row {number}: {error}') from error
        broken = [text for text in (name, *names) if _BROKEN.search(text)]
        if broken:
            raise ValueError(
                f'{path}, row {number}: a line break or NUL in the name '
                f'{broken[0][:80]!r}; close the quotation mark before it, or rename it'
            )
        labels.setdefault(name, []).extend(names)
    if header is None:
        _check_classes(path, list(labels.values()))
    shown = 'tab' if delimiter == '\t' else repr(delimiter)
    return f'CSV, {layout}, delimiter {shown}', labels


def _read_rows(path: Path) -> Tuple[str, List[Tuple[int, Row]]]:
    """The delimiter, and the rows that are not empty with their numbers."""
    text = read_text(path)
    check_entries(path, text.count('\n'))
    delimiter = _find_delimiter(text)
    if delimiter is None:
        raise ValueError(
            f'{path}: the first line has no delimiter (comma, semicolon, tab or bar) '
            'between an image and its classes'
        )
    rows: List[Row] = []
    lines = io.StringIO(text, newline='')
    try:
        for row in csv.reader(lines, delimiter=delimiter, strict=True):
            rows.append(row)
    except csv.Error as error:
        raise ValueError(
            f'{path}, row {len(rows) + 1}: not valid CSV: {error}; correct its quotation '
            'marks'
        ) from error
    stripped = [[cell.strip() for cell in row] for row in rows]
    numbered = [(i, row) for i, row in enumerate(stripped, start=1) if any(row)]
    if not numbered:
        raise ValueError(f'{path}: there is no row with a name; write one for each image')
    return delimiter, numbered


def _find_delimiter(text: str) -> Optional[str]:
    """The delimiter that stands first in the first line, outside of quotation marks."""
    line = next((line for line in text.splitlines() if line.strip()), '')
    quoted = False
    for character in line:
        quoted ^= character == '"'
        if character in _DELIMITERS and not quoted:
            return character
    return None


def _is_header(rows: List[Row]) -> bool:
    """Whether the first row has names of columns."""
    names = [_column_name(cell) for cell in rows[0]]
    if names[0] in _IMAGE_COLUMNS:
        return True
    if names[0] in _LABEL_COLUMNS and {_IMAGE, *_FILE_COLUMNS} & set(names):
        return True
    first, *others = (row[0].lower() for row in rows)
    others_are_files = bool(others) and all(c.endswith(IMAGE_SUFFIXES) for c in others)
    return others_are_files and not first.endswith(IMAGE_SUFFIXES)


def _column_name(cell: str) -> str:
    return cell.lower().replace(' ', '_')


def _find_image(path: Path, header: Row) -> int:
    """The column that names the image."""
    names = [_column_name(cell) for cell in header]
    if names[0] not in _IMAGE_COLUMNS | _LABEL_COLUMNS:  # what is below it are images
        return 0
    for meant in ({_IMAGE}, _FILE_COLUMNS, {_NAME}):
        columns = [i for i, name in enumerate(names) if name in meant]
        if len(columns) > 1:
            several = ', '.join(repr(header[i]) for i in columns)
            raise ValueError(
                f'{path}: several columns could name the image: {several}; call the one '
                f'that does "{_IMAGE}"'
            )
        if columns:
            return columns[0]
    return 0


def _find_layout(
    path: Path, header: Optional[Row], image: int, rows: List[Row]
) -> Tuple[str, Callable[[Row], List[str]]]:
    """How the classes are written, and what finds those of a row."""
    if header is None:
        return 'names without a header', lambda row: _split(row[1:])
    others = [
        i
        for i, name in enumerate(header)
        if i > image or (i < image and _column_name(name) not in _WEAK_COLUMNS)
    ]
    called_labels = [i for i in others if header[i].lower() in _LABEL_COLUMNS]
    last = len(header) - 1
    for row in rows:
        if len(row) > len(header) and called_labels != [last]:
            raise ValueError(f'{path}: the row {row} has more columns than the header')
    cells = (row[i].lower() for row in rows for i in others if i < len(row))
    if others and not called_labels and all(cell in _YES_NO for cell in cells):
        return 'a column for each class', lambda row: [
            header[i] for i in others if i < len(row) and _YES_NO[row[i].lower()]
        ]
    columns = called_labels or others
    if len(columns) != 1:
        raise ValueError(
            f'{path}: the header {header} does not say where the classes are; call one '
            'column "labels", or give each class a column of 0 and 1'
        )
    (column,) = columns
    if column == last:  # and what follows it
        return 'names', lambda row: _split(row[column:])
    return f'column {header[column]!r}', lambda row: _split(row[column : column + 1])


def _check_classes(path: Path, labels: List[List[str]]) -> None:
    """Raise ValueError if the first row, taken for an image, could be a header."""
    names = {name for of_image in labels[1:] or labels for name in of_image}
    if names and all(name.lower() in _YES_NO for name in names):
        raise ValueError(
            f'{path}: the classes are {name_few(sorted(names))}: if the first row is a '
            f'header, call its first column "{_IMAGE}"; if there is none, begin with the '
            'line "image,labels"'
        )


def _split(cells: Row) -> List[str]:
    """The names in some cells."""
    names = (
        name.strip()
        for cell in cells
        for name in (_listed(cell) if cell.startswith('[') else _SEPARATORS.split(cell))
    )
    return [name for name in names if name]


def _listed(cell: str) -> List[str]:
    """The names in a list as Python or JSON write it."""
    names: Any = None
    for parse in (json.loads, ast.literal_eval):
        try:
            names = parse(cell)
            break
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    # of what has no commas Python makes one name
    if not is_list or len(names) != len(_QUOTED.findall(cell)):
        raise ValueError(
            f"{cell[:80]!r} is not a list of names like ['cat', 'dog']: write it so, in "
            'quotation marks, or the names with a semicolon between them'
        )
    return names
