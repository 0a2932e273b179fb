"""Dense CRF of many images: in worker processes, or in batches on a GPU."""

import collections
import concurrent.futures
import ctypes
import gc
import heapq
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Deque, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import torch
from pebble import ProcessExpired, ProcessPool
from torch import Tensor

from ..localization.bilateral import BACKENDS, import_densecrf
from .confidence import MaskConfidence
from .cores import usable_cores
from .dense_crf import (
    CLASS_EPSILON,
    CRFMask,
    DenseCRFOptions,
    check_crf_labels,
    dense_crf_batch,
    dense_crf_mask,
    label_pixels,
)
from .memory import crf_bytes, free_bytes, memory_error

MAX_BYTES = 2**30
"""Bound on the images and probabilities that wait for the CRF: 1 GiB, some 60 images of
375x500 with 21 classes."""
_SECONDS_TO_END = 10.0  # for the library's threads after the workers have ended

Array = Union[np.ndarray, Tensor]


class CRFJob(NamedTuple):
    """One image to refine; arrays, or tensors on any device."""

    name: str
    """What errors call the image: its path or ID."""
    image: Array
    """RGB, uint8 ``(H, W, 3)``."""
    probs: Array
    """Probabilities, float32 ``(C, H, W)``, the background first."""
    labels: Array
    """Dense label of each channel, integer ``(C,)`` in 0..254."""
    payload: Any = None
    """Comes back with the result; it never leaves this process."""
    held_bytes: int = 0
    """Memory that ``payload`` holds meanwhile; it counts as that of the job does."""
    keep_probs: bool = False
    """Whether the result has the refined probabilities."""


class CRFResult(NamedTuple):
    """What became of one job."""

    name: str
    """Of the job."""
    mask: Optional[np.ndarray]
    """Dense labels ``(H, W)`` uint8; None after an error."""
    confidence: Optional[np.ndarray]
    """Mean refined probability of the pixels that each channel won, float32
    ``(C,)``; NaN where there are none. None after an error."""
    error: Optional[str]
    """What went wrong, with the image's name; None where nothing did."""
    payload: Any
    """Of the job."""
    mask_confidence: Optional[MaskConfidence] = None
    """Of each pixel and of the mask; None after an error."""
    probs: Optional[np.ndarray] = None
    """Refined probabilities, float32 ``(C, H, W)``, with ``keep_probs``."""


Reply = Union[CRFMask, str]
"""The refined image, or what went wrong."""


class _OpenJob:
    """A job that was submitted and not yet handed back."""

    def __init__(self, job: CRFJob) -> None:
        self.job = job
        self.input_bytes = sum(getattr(a, 'nbytes', 0) for a in (job.image, job.probs))
        channels, *size = getattr(job.probs, 'shape', (0,))
        # what waits for its turn once it is refined: label and confidence of each pixel
        result_bytes = (1 + 4 + job.keep_probs * 4 * channels) * math.prod(size)
        self.num_bytes = self.input_bytes + result_bytes + job.held_bytes
        self.size = tuple(size)
        self.work_bytes = crf_bytes(size, channels) if len(size) == 2 else 0
        """What the CRF takes while it works on it."""
        self.future: 'Future[Reply]' = Future()
        self.tried_again = False

    def result(self, reply: Reply) -> CRFResult:
        name, payload = self.job.name, self.job.payload
        if isinstance(reply, CRFMask):
            return CRFResult(
                name,
                reply.mask,
                reply.confidence,
                None,
                payload,
                reply.mask_confidence,
                reply.probs,
            )
        return CRFResult(name, None, None, f'dense CRF of {name}: {reply}', payload)


class CRFQueue(ABC):
    """Refine many images; results in order of submission.

    Memory does not grow with the number of images: a job is admitted once those that are
    open, that is submitted and not yet handed back, leave it room. An image that fails
    gives a result with ``error``; all other images are not affected.

    Use it as a context manager, from one thread: leaving it drops jobs that were not
    drained.

    Args:
        max_bytes: Bound on the bytes of image, probabilities and result of all open jobs.
            A single job is always admitted.
        max_pending: Bound on their number (results and payloads count too).
    """

    def __init__(self, max_bytes: int, max_pending: int) -> None:
        self.max_bytes = max_bytes
        self.max_pending = max_pending
        self._open: Deque[_OpenJob] = collections.deque()
        self._closed = False

    def submit(self, job: CRFJob) -> List[CRFResult]:
        """Hand a job in; blocks while the open jobs leave it no room.

        Returns:
            Results that are ready by now, in order of submission.
        """
        results = self.ready()
        new = _OpenJob(job)
        while not self._has_room(new):
            self._wait_for_oldest()
            results += self.ready()
        self._open.append(new)
        self._start(new)
        return results + self.ready()

    def ready(self) -> List[CRFResult]:
        """Results that are ready by now, in order of submission."""
        if self._closed:
            raise RuntimeError(f'the {type(self).__name__} is closed')
        results = []
        while self._open and self._open[0].future.done():
            oldest = self._open.popleft()
            results.append(oldest.result(self._reply(oldest.future)))
        return results

    def drain(self) -> List[CRFResult]:
        """Wait for all open jobs; their results in order of submission."""
        results = self.ready()
        while self._open:
            self._wait_for_oldest()
            results += self.ready()
        return results

    def map(self, jobs: Iterable[CRFJob]) -> Iterator[CRFResult]:
        """Results of ``jobs`` in their order; takes no more jobs than fit."""
        for job in jobs:
            yield from self.submit(job)
        while self._open:
            self._wait_for_oldest()
            yield from self.ready()

    def close(self) -> None:
        """Drop the open jobs; a second call does nothing."""
        self._closed = True
        self._open.clear()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def _has_room(self, new: _OpenJob) -> bool:
        taken = sum(open_job.num_bytes for open_job in self._open)
        return not self._open or (
            len(self._open) < self.max_pending and taken + new.num_bytes <= self.max_bytes
        )

    @abstractmethod
    def _start(self, new: _OpenJob) -> None:
        """Begin with a job, the latest of ``self._open``."""

    @abstractmethod
    def _wait_for_oldest(self) -> None:
        """Wait until the oldest open job is done, or for a while."""

    def _reply(self, future: 'Future[Reply]') -> Reply:
        return future.result()


class DenseCRFPool(CRFQueue):
    """Refine many images in worker processes; results in order of submission.

    See :class:`CRFQueue`. Jobs go to the workers without any file. An image whose worker
    died (killed for memory, say) or ran into the time-out gives a result with ``error``,
    and another worker takes the place of that one. No more images are begun than fit into
    the free memory by their estimates (:func:`~mmseg_more.masks.memory.crf_bytes`); one
    that does not fit alone is an ``error`` at once. Leaving the context, or the end of
    this process, ends the workers.

    Args:
        num_workers: Processes. Defaults to one per core of this process, see
            :func:`usable_cores`. 0: images are refined in this process, while
            they are submitted.
        max_pending: Bound on the number of open jobs. Defaults to 4 for each worker.
        options: Settings of the CRF. Defaults to MoRe's.
        epsilon: Classes below this probability are left out, see
            :func:`dense_crf`. Defaults to ``CLASS_EPSILON``.
        start_method: ``fork`` (at once), ``spawn`` or ``forkserver`` (seconds:
            each worker imports this package; the main script needs its
            ``if __name__ == '__main__'``). Defaults to fork on Linux, else
            spawn. A forked worker does not use the GPU.
        backend: As in :func:`dense_crf`. A worker uses one thread.
        max_bytes: Bound on the bytes of image, probabilities and result of all open jobs.
            Defaults to ``MAX_BYTES``.
        timeout: Seconds that a worker may take for one image; without effect where there
            are no workers. Defaults to None: any.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If pydensecrf is asked for and missing; says how to install it.

    Example:
        >>> with DenseCRFPool() as pool:
        ...     for result in pool.map(jobs):  # a generator of CRFJob
        ...         save(result.name, result.mask)
    """

    def __init__(
        self,
        num_workers: Optional[int] = None,
        max_pending: Optional[int] = None,
        options: DenseCRFOptions = DenseCRFOptions(),
        epsilon: float = CLASS_EPSILON,
        start_method: Optional[str] = None,
        backend: str = 'auto',
        max_bytes: int = MAX_BYTES,
        timeout: Optional[float] = None,
    ) -> None:
        num_workers = usable_cores() if num_workers is None else num_workers
        if max_pending is None:
            max_pending = 4 * max(1, num_workers)
        if num_workers < 0 or max_pending < 1 or not 0 <= epsilon < 1:
            raise ValueError(
                'expected num_workers >= 0, max_pending >= 1 and epsilon in '
                f'[0, 1), got {num_workers}, {max_pending} and {epsilon}'
            )
        if max_bytes < 1 or (timeout is not None and timeout <= 0):
            raise ValueError(
                'expected max_bytes >= 1 and a positive timeout or None, got '
                f'{max_bytes} and {timeout}'
            )
        if backend not in BACKENDS:
            raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
        if backend == 'pydensecrf':
            import_densecrf()  # fails here rather than in each worker
        super().__init__(max_bytes, max_pending)
        if start_method is None:
            start_method = 'fork' if sys.platform == 'linux' else 'spawn'
        self.num_workers = num_workers
        self.timeout = timeout
        self._settings = (options, epsilon, backend)
        self._context = multiprocessing.get_context(start_method)
        self._pool: Optional[ProcessPool] = self._new_pool() if num_workers else None
        self._free: Optional[int] = None  # memory, when no image was worked on

    def ready(self) -> List[CRFResult]:
        """Results that are ready by now, in order of submission."""
        if self._pool is not None and not self._pool.active:
            self._replace_pool(self._pool)
        return super().ready()

    def close(self) -> None:
        """End the workers. Open jobs are dropped; a second call does nothing."""
        super().close()
        pool, self._pool = self._pool, None
        if pool is not None:
            _end(pool)

    def _new_pool(self) -> ProcessPool:
        pool = ProcessPool(
            max_workers=self.num_workers, initializer=_prepare_worker, context=self._context
        )
        if not pool.active:  # which starts the workers
            _end(pool)
            raise RuntimeError('the worker processes of the dense CRF cannot be started')
        return pool

    def _has_room(self, new: _OpenJob) -> bool:
        begun = [job.work_bytes for job in self._open if not job.future.done()]
        at_once = heapq.nlargest(max(self.num_workers, 1), [*begun, new.work_bytes])
        fits = not begun or self._free is None or sum(at_once) <= self._free
        return fits and super()._has_room(new)

    def _start(self, new: _OpenJob) -> None:
        if all(job is new or job.future.done() for job in self._open):
            self._free = free_bytes()
            error = memory_error(new.work_bytes, self._free, new.size)
            if error is not None:
                new.future.set_result(error)
                return
        arrays, settings = _arrays(new.job), (*self._settings, new.job.keep_probs)
        if self._pool is None:
            new.future.set_result(_refine(arrays, settings))
            return
        try:
            new.future = self._pool.schedule(
                _refine, args=(arrays, settings), timeout=self.timeout
            )
        except RuntimeError:  # it broke; see _replace_pool
            pass

    def _wait_for_oldest(self) -> None:
        # now and then this looks whether the pool still works, see ready
        concurrent.futures.wait([self._open[0].future], timeout=1)

    def _replace_pool(self, broken: ProcessPool) -> None:
        """Go on with other workers, once more with the jobs that were not finished.

        The library fails the task of a worker that dies, but gives up altogether if none
        had a task, or if one died while it held the lock of their common pipe.
        """
        _end(broken)
        self._pool = self._new_pool()
        for open_job in self._open:
            future = open_job.future
            if future.done() and not isinstance(future.exception(), BrokenProcessPool):
                continue
            open_job.future = Future()
            if open_job.tried_again:
                open_job.future.set_result('the worker processes died twice')
            else:
                open_job.tried_again = True
                self._start(open_job)

    def _reply(self, future: 'Future[Reply]') -> Reply:
        try:
            return future.result()
        except ProcessExpired as error:
            return (
                f'the worker process died with exit code {error.exitcode} (-9 is often '
                'the system running out of memory: use fewer workers)'
            )
        except concurrent.futures.TimeoutError:
            return f'it took longer than {self.timeout} s (crf_timeout)'
        except Exception as error:  # it cannot be pickled, say
            return f'{type(error).__name__}: {error}'


class LatticeCRF(CRFQueue):
    """Refine many images on the device of their tensors; results in order of submission.

    See :class:`CRFQueue`. There are no processes and no copies of the probabilities:
    images of one size wait for each other and go through one lattice
    (:func:`dense_crf_batch`), in this thread. If a batch fails, its images are tried one
    by one, so that one that cannot be refined fails alone.

    Args:
        options: Settings of the CRF. Defaults to MoRe's.
        epsilon: Classes below this probability are left out, see
            :func:`dense_crf`. Defaults to ``CLASS_EPSILON``.
        max_bytes: Bound on the bytes of image, probabilities and result of all open jobs.
            Defaults to ``MAX_BYTES``.
        batch_bytes: A batch is complete at so many bytes of image and probabilities.
            Defaults to 64 MiB: 4 images of 375x500 with 21 classes, 16 with 4.
        max_pending: Bound on the number of open jobs.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        options: DenseCRFOptions = DenseCRFOptions(),
        epsilon: float = CLASS_EPSILON,
        max_bytes: int = MAX_BYTES,
        batch_bytes: int = 2**26,
        max_pending: int = 64,
    ) -> None:
        if not 0 <= epsilon < 1 or min(max_bytes, batch_bytes, max_pending) < 1:
            raise ValueError(
                'expected epsilon in [0, 1) and max_bytes, batch_bytes and max_pending of '
                f'at least 1, got {epsilon}, {max_bytes}, {batch_bytes} and {max_pending}'
            )
        super().__init__(max_bytes, max_pending)
        self.batch_bytes = batch_bytes
        self._settings = (options, epsilon, 'lattice')

    def _start(self, new: _OpenJob) -> None:
        batch = self._batch_of(new)
        if sum(open_job.input_bytes for open_job in batch) >= self.batch_bytes:
            self._refine(batch)

    def _wait_for_oldest(self) -> None:
        self._refine(self._batch_of(self._open[0]))

    def _batch_of(self, one: _OpenJob) -> List[_OpenJob]:
        """Open jobs that can be refined with this one."""
        return [
            open_job
            for open_job in self._open
            if not open_job.future.done() and _batch_key(open_job) == _batch_key(one)
        ]

    def _refine(self, batch: List[_OpenJob]) -> None:
        replies = _refine_batch([open_job.job for open_job in batch], *self._settings)
        for open_job, reply in zip(batch, replies):
            open_job.future.set_result(reply)


def open_crf(
    options: DenseCRFOptions = DenseCRFOptions(),
    epsilon: float = CLASS_EPSILON,
    backend: str = 'auto',
    device: Union[str, torch.device] = 'cpu',
    num_workers: Optional[int] = None,
    max_bytes: int = MAX_BYTES,
    timeout: Optional[float] = None,
) -> CRFQueue:
    """Where images are refined: :class:`LatticeCRF` on a GPU, else :class:`DenseCRFPool`.

    Args:
        options: Settings of the CRF.
        epsilon: Classes below this probability are left out.
        backend: As in :func:`dense_crf`; with 'pydensecrf' the probabilities of a GPU
            are copied to the worker processes.
        device: Where the probabilities are.
        num_workers: As in :class:`DenseCRFPool`; without effect on a GPU.
        max_bytes: Bound on the bytes of image, probabilities and result of all open jobs.
        timeout: As in :class:`DenseCRFPool`; without effect on a GPU.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If pydensecrf is asked for and missing; says how to install it.
    """
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
    if torch.device(device).type != 'cpu' and backend != 'pydensecrf':
        return LatticeCRF(options, epsilon, max_bytes)
    return DenseCRFPool(
        num_workers,
        options=options,
        epsilon=epsilon,
        backend=backend,
        max_bytes=max_bytes,
        timeout=timeout,
    )


def _arrays(job: CRFJob) -> Tuple[Any, ...]:
    """Image, probabilities and labels on the host."""
    return tuple(a.cpu().numpy() if isinstance(a, Tensor) else a for a in job[1:4])


def _refine(arrays: tuple, settings: tuple) -> Reply:
    """:func:`dense_crf_mask` with its errors as values.

    Args:
        arrays: Image, probabilities and labels.
        settings: Options, epsilon, backend, and whether to keep the probabilities.
    """
    try:
        return dense_crf_mask(*arrays, *settings)
    except Exception as error:
        return f'{type(error).__name__}: {error}'


def _batch_key(open_job: _OpenJob) -> tuple:
    """Jobs of one key can share a lattice."""
    probs = open_job.job.probs
    return tuple(getattr(probs, 'shape', ()))[1:], getattr(probs, 'device', None)


def _refine_batch(
    jobs: List[CRFJob], options: DenseCRFOptions, epsilon: float, backend: str
) -> List[Reply]:
    """:func:`dense_crf_batch` and masks, with errors as values."""
    try:
        labels = [check_crf_labels(job.labels, len(job.probs)) for job in jobs]
        refined = dense_crf_batch(
            [job.image for job in jobs],
            [torch.as_tensor(job.probs) for job in jobs],
            options,
            epsilon,
            backend,
        )
        return [
            label_pixels(probs, dense_labels, job.keep_probs)
            for probs, dense_labels, job in zip(refined, labels, jobs)
        ]
    except Exception as error:
        if len(jobs) == 1:
            return [f'{type(error).__name__}: {error}']
    # out of memory, or one of them cannot be refined
    return [_refine_batch([job], options, epsilon, backend)[0] for job in jobs]


def _prepare_worker() -> None:
    """What a worker does before its first image."""
    # pebble has it ignore Ctrl-C, which reaches all processes, and end by a handler that
    # waits for the CRF of the image
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, 'nice'):
        os.nice(10)  # a network on the same cores waits for its slowest thread
    _keep_freed_memory()
    gc.freeze()  # what was forked is not this process's to free, on a GPU least
    torch.set_num_threads(1)  # the threads of the other process were not forked
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """End this process soon after another one, even if that one was killed.

    The closing of the pipe does not tell where other processes have inherited it.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _keep_freed_memory() -> None:
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


def _end(pool: ProcessPool) -> None:
    """End the workers of a pool, whatever they do."""
    pool.stop()
    # Its threads end after the workers; one that was handing over a job only once no other
    # process that inherited the pipe is left, which is not waited for.
    thread = threading.Thread(target=pool.join, daemon=True)
    thread.start()
    thread.join(_SECONDS_TO_END)
