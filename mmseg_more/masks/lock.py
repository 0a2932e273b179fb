"""One run at a time in a folder."""

import errno
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing is locked
    fcntl = None  # type: ignore[assignment]

_held: Dict[str, dict] = {}
"""Locks of this process, which the system would grant it once more, and what it has written
into their files: it must not open one of these again, since closing it ends the lock."""


class FolderLock:
    """An exclusive lock on a folder, which ends with its process at the latest.

    It is a record lock (``lockf``): unlike those of ``flock``, processes that are forked
    off (the workers of data loaders and of the CRF) do not keep it alive, so that a run
    that was killed can be started again at once. The file says who holds it, and is gone
    afterwards.

    Args:
        folder: The folder, which must exist when the lock is taken.
        activity: What the holder is doing there, for the error that others get.
    """

    NAME = '.lock'

    def __init__(self, folder: Path, activity: str = 'masks are being written') -> None:
        self.folder = folder
        self.activity = activity
        self.path = folder / self.NAME
        self._file: Optional[int] = None
        self._pid = 0

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            BlockingIOError: If another run has it; says which.
            OSError: If the file system knows no locks, or nothing can be written there.
        """
        if self.held or fcntl is None:
            return
        key = os.path.realpath(self.path)
        if key in _held:
            raise self._refusal(_held[key])
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(file)
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise OSError(
                        error.errno,
                        f'{error.strerror}: its file system does not lock files, and two '
                        'runs could disturb each other there; choose a folder on another',
                        str(self.folder),
                    ) from error
                raise self._refusal(self._read_holder()) from error
            try:
                # the run before may have removed the file after it was opened here
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    break
            except FileNotFoundError:
                pass
            os.close(file)
        holder = dict(
            pid=os.getpid(),
            host=platform.node(),
            since=time.strftime('%Y-%m-%d %H:%M:%S'),
            command=' '.join(sys.argv),
        )
        os.ftruncate(file, 0)
        os.write(file, json.dumps(holder).encode())
        self._file, self._pid = file, os.getpid()
        _held[key] = holder

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._file is None or self._pid != os.getpid():  # a copy in a forked process
            return
        file, self._file = self._file, None
        _held.pop(os.path.realpath(self.path), None)
        self.path.unlink(missing_ok=True)
        os.close(file)

    def __del__(self) -> None:
        self.release()

    def _read_holder(self) -> Any:
        """What another process has written into the file; None if it has not yet."""
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):  # it has just begun, or ended
            return None

    def _refusal(self, holder: Any) -> BlockingIOError:
        try:
            who = (
                f'process {holder["pid"]} on {holder["host"]} since {holder["since"]} '
                f'({holder["command"]})'
            )
        except (KeyError, TypeError):
            who = 'another process'
        return BlockingIOError(
            errno.EAGAIN,
            f'{self.activity} there by {who}: wait for its end, or choose another folder',
            str(self.folder),
        )
