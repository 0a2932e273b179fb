"""Peak memory of this process and its children together."""

import multiprocessing
import threading
from typing import Optional

from .memory import resident_bytes


def tree_bytes() -> int:
    """Memory of this process and its children, pages that they share counted once.

    Where the kernel does not tell (not Linux), that of this process alone.
    """
    try:
        total = _proportional_bytes('self')
    except OSError:
        return resident_bytes()
    for child in multiprocessing.active_children():
        try:
            total += _proportional_bytes(str(child.pid))
        except OSError:
            pass  # it has just ended
    return total


def _proportional_bytes(pid: str) -> int:
    """Resident memory, each page divided by the number of processes that share it."""
    with open(f'/proc/{pid}/smaps_rollup') as file:
        for line in file:
            if line.startswith('Pss:'):
                return 1024 * int(line.split()[1])
    raise OSError(f'no Pss of process {pid}')


class TreeMeter:
    """Peak of :func:`tree_bytes` inside a ``with`` block, sampled by a thread.

    Args:
        interval: Seconds between samples.
    """

    def __init__(self, interval: float = 0.05) -> None:
        self.interval = interval
        self.peak = 0
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> 'TreeMeter':
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        stopped = False
        while not stopped:
            self.peak = max(self.peak, tree_bytes())
            stopped = self._stop.wait(self.interval)

    @property
    def peak_mb(self) -> float:
        """In MB (2^20 bytes)."""
        return self.peak / 2**20
