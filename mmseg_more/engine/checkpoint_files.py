"""Checkpoints as files: written whole or not at all, and found again."""

import re
import zipfile
import zlib
from pathlib import Path
from typing import List, NamedTuple, Optional, Union

from mmengine.fileio import LocalBackend, register_backend

from ..files import write_bytes

LAST_CHECKPOINT = 'last_checkpoint'
"""The file of a work folder that names the checkpoint to resume from (MMEngine's)."""


class WholeFileBackend(LocalBackend):
    """MMEngine's backend of local files, whose files are whole or not there.

    It is a backend of its own, for ``backend_args=dict(backend='whole_file')``; paths
    without it are read and written as ever.
    """

    NAME = 'whole_file'

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write bytes beside the file, wait for the disk, and rename.

        Raises:
            OSError: The disk does not take it; an earlier version is still there.
        """
        write_bytes(filepath, obj, sync=True)

    def put_text(
        self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8'
    ) -> None:
        """As :meth:`put`, for text."""
        self.put(obj.encode(encoding), filepath)


register_backend(WholeFileBackend.NAME, WholeFileBackend, force=True)


class FoundCheckpoint(NamedTuple):
    """What a search for the newest whole checkpoint came to."""

    path: Optional[Path]
    """The newest one that is whole; None if there is none."""
    skipped: List[str]
    """Newer ones that are not whole: path and reason of each."""


def damage(path: Path) -> Optional[str]:
    """What is wrong with a checkpoint file; None if it is whole.

    PyTorch writes zip archives, whose table of contents is at the end and holds a check sum
    of each tensor. All of the file is read, and nothing of it is unpickled. A folder, as
    some strategies of MMEngine write, is taken for whole.
    """
    if path.is_dir():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except FileNotFoundError:
        return 'it does not exist'
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        size = path.stat().st_size if path.is_file() else 0
        return f'{size} bytes, cut off or damaged: {error}'
    return None if part is None else f'{part} in it is damaged'


def newest_whole(folder: Path, template: str, named: Optional[Path]) -> FoundCheckpoint:
    """Find the checkpoint that a training goes on from.

    It is the one that ``last_checkpoint`` names, unless another has a higher number and is
    younger as well (a run that was killed before it could change the name). If that is not
    whole it is the youngest one that is.

    Args:
        folder: Where the checkpoints are.
        template: Their names, such as ``iter_{}.pth``.
        named: What ``last_checkpoint`` names, if there is such a file.
    """
    pattern = re.compile(re.escape(template).replace(r'\{\}', r'(\d+)'))
    numbers = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and path.is_file():
            numbers[path] = int(match.group(1))

    def age_key(path: Path) -> tuple:
        return path.stat().st_mtime_ns, numbers[path]

    candidates = sorted(numbers, key=age_key, reverse=True)
    if named is not None:
        known = numbers.get(named)
        younger = [
            path
            for path in candidates
            if known is not None
            and numbers[path] > known
            and path.stat().st_mtime_ns >= named.stat().st_mtime_ns
        ]
        rest = [path for path in candidates if path != named and path not in younger]
        candidates = [*younger, named, *rest]
    skipped: List[str] = []
    for path in candidates:
        reason = damage(path)
        if reason is None:
            return FoundCheckpoint(path, skipped)
        skipped.append(f'{path} ({reason})')
    return FoundCheckpoint(None, skipped)


def remove_temporaries(folder: Path, template: str) -> List[Path]:
    """Remove what a run that was killed while it wrote has left beside the checkpoints.

    Returns:
        What was removed.
    """
    removed = []
    for name in (template.replace('{}', '*'), 'best_*.pth', LAST_CHECKPOINT):
        for path in folder.glob(f'.{name}.????????'):  # as write_bytes names them
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed
