"""Image labels in a CSV file, as people and other programs write it."""

import csv
import io
import re
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from ..image_files import IMAGE_SUFFIXES
from .image_labels import ImageLabels, check_entries, read_text

Row = List[str]

_DELIMITERS = ',;\t|'
_SEPARATORS = re.compile(r'[,;|]')
_IMAGE_COLUMNS = frozenset(
    ('', 'id', 'image', 'images', 'image_id', 'image_name', 'img', 'file', 'filename')
    + ('file_name', 'name', 'path')
)
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

    * in one cell, separated by a comma, semicolon or bar, or in several cells;
    * in a column called ``labels``, ``class`` or the like, among other ones;
    * a column each, with 0 and 1 (or no and yes).

    An image in several rows has the classes of all.

    Args:
        path: The file, UTF-8.

    Returns:
        How it was understood, and the class names by the image's name.

    Raises:
        ValueError: If it cannot be understood; says where.
    """
    delimiter, rows = _read_rows(path)
    header = rows[0][1] if _is_header(rows[0][1]) else None
    if header is not None:
        rows = rows[1:]
    layout, names_in = _find_layout(path, header, [row for _, row in rows])
    labels: Dict[str, List[str]] = {}
    for number, row in rows:
        if not row[0]:
            raise ValueError(f'{path}, row {number}: the name of the image is empty')
        labels.setdefault(row[0], []).extend(names_in(row))
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
    try:
        rows = list(csv.reader(io.StringIO(text, newline=''), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f'{path} is not valid CSV: {error}') from error
    stripped = [[cell.strip() for cell in row] for row in rows]
    return delimiter, [(i, row) for i, row in enumerate(stripped, start=1) if any(row)]


def _find_delimiter(text: str) -> Optional[str]:
    """The delimiter that stands first in the first line, outside of quotation marks."""
    line = next((line for line in text.splitlines() if line.strip()), '')
    quoted = False
    for character in line:
        quoted ^= character == '"'
        if character in _DELIMITERS and not quoted:
            return character
    return None


def _is_header(row: Row) -> bool:
    name = row[0].lower().replace(' ', '_')
    return not name.endswith(IMAGE_SUFFIXES) and name in _IMAGE_COLUMNS


def _find_layout(
    path: Path, header: Optional[Row], rows: List[Row]
) -> Tuple[str, Callable[[Row], List[str]]]:
    """How the classes are written, and what finds those of a row."""
    if header is None:
        return 'names without a header', lambda row: _split(row[1:])
    called_labels = [
        i for i, name in enumerate(header) if i and name.lower() in _LABEL_COLUMNS
    ]
    for row in rows:
        if len(row) > len(header) and called_labels != [len(header) - 1]:
            raise ValueError(f'{path}: the row {row} has more columns than the header')
    if not called_labels and all(
        cell.lower() in _YES_NO for row in rows for cell in row[1:]
    ):
        return 'a column for each class', lambda row: [
            name for name, cell in zip(header[1:], row[1:]) if _YES_NO[cell.lower()]
        ]
    if len(header) == 2 or called_labels == [len(header) - 1]:  # and what follows it
        return 'names', lambda row: _split(row[len(header) - 1 :])
    if len(called_labels) != 1:
        raise ValueError(
            f'{path}: the header {header} does not say where the classes are; call one '
            'column "labels", or give each class a column of 0 and 1'
        )
    (column,) = called_labels
    return f'column {header[column]!r}', lambda row: _split(row[column : column + 1])


def _split(cells: Row) -> List[str]:
    names = (name.strip() for cell in cells for name in _SEPARATORS.split(cell))
    return [name for name in names if name]
