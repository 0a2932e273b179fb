"""Peak memory: on a GPU by its allocator, on a CPU by sampling the process."""

import ctypes
import gc
import multiprocessing
import os
import sys
import threading
import time
from typing import List, Optional, Tuple

import torch

from .process_tree import proportional_bytes

_MB = 2**20


def process_bytes() -> int:
    """Resident memory of this process; where /proc is missing, its peak so far."""
    try:
        with open('/proc/self/statm', 'rb') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except FileNotFoundError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == 'darwin' else 1024)


def tree_bytes() -> int:
    """Memory of this process and its children, pages that they share counted once.

    Where the kernel does not tell (not Linux), that of this process alone.
    """
    try:
        total = proportional_bytes('self')
    except OSError:
        return process_bytes()
    for child in multiprocessing.active_children():
        try:
            total += proportional_bytes(str(child.pid))
        except OSError:
            pass  # it has just ended
    return total


def release_memory(device: torch.device) -> None:
    """Return what is no longer used, so that two measurements start alike."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()
    elif sys.platform == 'linux':
        try:
            ctypes.CDLL('libc.so.6').malloc_trim(0)
        except (OSError, AttributeError):  # another C library: nothing to trim
            pass


class MemoryMeter:
    """Peak memory within a ``with`` block.

    A thread takes a sample every ``interval`` seconds, so a shorter peak may escape it;
    on a GPU the peak over the whole block is the allocator's own and exact.

    Args:
        device: On a GPU the bytes of its allocator count, on a CPU the resident memory
            of this process, libraries included.
        interval: Seconds between samples.
        children: On a CPU, count this process and its children, see :func:`tree_bytes`.
    """

    def __init__(
        self, device: torch.device, interval: float = 0.002, children: bool = False
    ) -> None:
        self.device, self.interval, self.children = device, interval, children
        self.samples: List[Tuple[float, int]] = []
        """Seconds of ``time.perf_counter()`` and bytes."""
        self._exact: Optional[int] = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> 'MemoryMeter':
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()
        if self.device.type == 'cuda':
            self._exact = torch.cuda.max_memory_allocated(self.device)

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self._sample()

    def _sample(self) -> None:
        if self.device.type == 'cuda':
            value = torch.cuda.memory_allocated(self.device)
        else:
            value = tree_bytes() if self.children else process_bytes()
        self.samples.append((time.perf_counter(), value))

    @property
    def peak_mb(self) -> float:
        """Over the whole block, in MB (2^20 bytes)."""
        return max([value for _, value in self.samples] + [self._exact or 0]) / _MB

    def peak_between(self, start: float, end: float) -> float:
        """Peak in a span of time, in MB; that of the sample before it if it has none.

        Args:
            start: Seconds of ``time.perf_counter()``.
            end: Likewise.
        """
        before = [value for moment, value in self.samples if moment < start]
        within = [value for moment, value in self.samples if start <= moment <= end]
        return max(within or before[-1:] or [self.samples[0][1]]) / _MB
