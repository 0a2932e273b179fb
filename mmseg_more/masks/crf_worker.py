"""A process that refines one image after the other, for ``DenseCRFPool``."""

import ctypes
import gc
import os
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Callable, Optional, Tuple, Union

from .dense_crf import CRFMask, dense_crf_mask

Reply = Union[CRFMask, str]
"""The refined image, or what went wrong."""


class CRFWorker:
    """A process, the pipe to it and the thread that waits for it."""

    def __init__(self, context: BaseContext, settings: tuple) -> None:
        self.dead = False  # once the thread has nothing more to do
        self._thread: Optional[threading.Thread] = None
        self._pipe, far_end = context.Pipe()
        # a forked process holds a copy of this end as well
        forked = context.get_start_method() == 'fork'
        try:
            self._process = context.Process(
                target=work,
                args=(far_end, self._pipe if forked else None, settings),
                name='dense-crf',
                daemon=True,
            )
            self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            far_end.close()  # so that the end of the worker ends the file

    def serve_by(self, serve: Callable[['CRFWorker'], None]) -> None:
        """Start the thread, unless there is one."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=serve, args=(self,), daemon=True)
        thread.start()
        self._thread = thread

    def exchange(self, arrays: tuple) -> Tuple[Reply, bool]:
        """The worker's reply, and whether it can take another job.

        Args:
            arrays: As :func:`refine` takes them.
        """
        try:
            self._pipe.send(arrays)
        except OSError:
            return self._cause_of_death(), False
        except Exception as error:  # not to be pickled: nothing was sent
            return f'{type(error).__name__}: {error}', True
        try:
            return self._pipe.recv(), True
        except (EOFError, OSError):
            return self._cause_of_death(), False
        except Exception as error:  # out of memory: part of it is unread
            return f'{type(error).__name__}: {error}', False

    def _cause_of_death(self) -> str:
        self._process.join()
        return (
            'the worker process died with exit code '
            f'{self._process.exitcode} (-9 is often the system running '
            'out of memory: use fewer workers)'
        )

    def kill(self) -> None:
        """End process and thread, whatever they do."""
        self._process.kill()
        if self._thread is not None:
            self._thread.join()
        self._process.join()
        self._pipe.close()


def work(pipe: Connection, other_end: Optional[Connection], settings: tuple) -> None:
    """What a worker does until the other process closes the pipe or ends."""
    # Ctrl-C reaches all processes; the first one then ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, 'nice'):
        os.nice(10)  # a network on the same cores waits for its slowest thread
    keep_freed_memory()
    gc.freeze()  # what was forked is not this process's to free, on a GPU least
    if other_end is not None:
        other_end.close()
    while True:
        try:
            pipe.send(refine(pipe.recv(), settings))
        except (EOFError, OSError):
            return


def keep_freed_memory() -> None:
    """Have this process reuse large buffers; it does nothing without glibc.

    The CRF allocates buffers of tens of MB in each iteration. glibc hands such ones
    back to the system, which then clears every page again: a fifth of the time on
    images of many colours.
    """
    mmap_threshold, trim_threshold = -3, -1  # <malloc.h>
    try:
        mallopt = ctypes.CDLL('libc.so.6').mallopt
    except (OSError, AttributeError):
        return
    for option in (mmap_threshold, trim_threshold):
        mallopt(option, 2**31 - 1)


def refine(arrays: tuple, settings: tuple) -> Reply:
    """:func:`dense_crf_mask` with its errors as values.

    Args:
        arrays: Image, probabilities and labels.
        settings: Options and epsilon.
    """
    try:
        return dense_crf_mask(*arrays, *settings)
    except Exception as error:
        return f'{type(error).__name__}: {error}'
