"""Peak memory, on a GPU by its allocator and on a CPU by sampling the process."""

import ctypes
import gc
import os
import sys
import threading
from typing import Optional

import torch

_MB = 2**20


def resident_bytes() -> int:
    """Memory of this process; where /proc is missing, its peak so far."""
    try:
        with open('/proc/self/statm', 'rb') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except FileNotFoundError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == 'darwin' else 1024)


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
    """Peak memory between two readings, as a context manager.

    On a GPU the bytes of the allocator. On a CPU the resident memory of the
    whole process (libraries too), sampled by a thread every ``interval`` seconds: a
    shorter peak may escape it.

    Args:
        device: Where the model runs.
        interval: Seconds between samples.
    """

    def __init__(self, device: torch.device, interval: float = 0.002) -> None:
        self.device, self.interval = device, interval
        self._peak = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> 'MemoryMeter':
        if self.device.type != 'cuda':
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        self.take()
        return self

    def __exit__(self, *error) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(self.interval):
            with self._lock:
                self._peak = max(self._peak, resident_bytes())

    def take(self) -> float:
        """Peak since the last call in MB (2^20 bytes); the next one starts afresh."""
        if self.device.type == 'cuda':
            peak = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return peak / _MB
        with self._lock:
            now = resident_bytes()
            peak, self._peak = max(self._peak, now), now
        return peak / _MB
