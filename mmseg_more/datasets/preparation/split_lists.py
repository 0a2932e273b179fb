"""Split files: one image ID per line."""

from pathlib import Path
from typing import List, Sequence

from ...files import read_lines, write_bytes
from ..image_labels import name_few


def read_split(path: Path) -> List[str]:
    """The IDs of a split file.

    Raises:
        ValueError: If it is no text in UTF-8.
    """
    return read_lines(path, 'the split file')


def write_split(path: Path, ids: Sequence[str]) -> str:
    """Write a split file unless there is one, which may be the field's own.

    Returns:
        What became of it, in one sentence.
    """
    if not path.exists():
        write_bytes(path, ''.join(f'{image_id}\n' for image_id in ids).encode())
        return f'{path}: written, {len(ids)} images'
    there = read_split(path)
    added, lost = sorted(set(there) - set(ids)), sorted(set(ids) - set(there))
    if not added and not lost:
        return f'{path}: already there, {len(there)} images'
    differences = [
        f'{len(names)} {where} ({name_few(names)})'
        for names, where in ((added, 'only there'), (lost, 'missing there'))
        if names
    ]
    return (
        f'{path}: kept as it is, with {len(there)} images where {len(ids)} were expected: '
        f'{", ".join(differences)}; delete it to have it written'
    )
