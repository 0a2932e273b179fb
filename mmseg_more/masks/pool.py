"""Dense CRF in worker processes, while the network goes on."""

import collections
import multiprocessing
import os
import sys
import threading
from typing import Any, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ..localization.bilateral import import_densecrf
from .crf_worker import CRFWorker, Reply, refine
from .dense_crf import CLASS_EPSILON, CRFMask, DenseCRFOptions


class CRFJob(NamedTuple):
    """One image to refine."""

    name: str
    """What errors call the image: its path or ID."""
    image: np.ndarray
    """RGB, uint8 ``(H, W, 3)``."""
    probs: np.ndarray
    """Probabilities, float32 ``(C, H, W)``, the background first."""
    labels: np.ndarray
    """Dense label of each channel, integer ``(C,)`` in 0..254."""
    payload: Any = None
    """Comes back with the result; it never leaves this process."""


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


def usable_cores() -> int:
    """Cores for this process, at least 1: its share if torchrun has started others."""
    count = os.cpu_count() or 1
    if hasattr(os, 'sched_getaffinity'):
        count = len(os.sched_getaffinity(0))
    return max(1, count // int(os.environ.get('LOCAL_WORLD_SIZE', 1)))


class DenseCRFPool:
    """Refine many images in worker processes; results in order of submission.

    Jobs go to the workers without any file. At most ``max_pending`` jobs are
    open, that is submitted and not yet handed back, so memory does not grow with
    the number of images. An image that fails gives a result with ``error``; so
    does the image whose worker died (killed for memory, say), and another worker
    takes the place of that one. All other images are not affected.

    Use it as a context manager, from one thread: leaving it ends the workers, and
    drops jobs that were not drained.

    Args:
        num_workers: Processes. Defaults to one per core of this process, see
            :func:`usable_cores`. 0: images are refined in this process, while
            they are submitted.
        max_pending: Open jobs. Defaults to 4 for each worker.
        options: Settings of the CRF. Defaults to MoRe's.
        epsilon: Classes below this probability are left out, see
            :func:`dense_crf`. Defaults to ``CLASS_EPSILON``.
        start_method: ``fork`` (at once), ``spawn`` or ``forkserver`` (seconds:
            each worker imports this package; the main script needs its
            ``if __name__ == '__main__'``). Defaults to fork on Linux, else
            spawn. A forked worker uses neither PyTorch nor the GPU.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If pydensecrf is missing; says how to install it.

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
    ) -> None:
        num_workers = usable_cores() if num_workers is None else num_workers
        if max_pending is None:
            max_pending = 4 * max(1, num_workers)
        if num_workers < 0 or max_pending < 1 or not 0 <= epsilon < 1:
            raise ValueError(
                'expected num_workers >= 0, max_pending >= 1 and epsilon in '
                f'[0, 1), got {num_workers}, {max_pending} and {epsilon}'
            )
        import_densecrf()  # fails here rather than in each worker; fork keeps it
        if start_method is None:
            start_method = 'fork' if sys.platform == 'linux' else 'spawn'
        self._context = multiprocessing.get_context(start_method)
        self._settings = (options, epsilon)
        self.num_workers = num_workers
        self.max_pending = max_pending
        self._changed = threading.Condition()  # guards all that follows
        self._waiting: Deque[Tuple[int, CRFJob]] = collections.deque()
        self._finished: Dict[int, CRFResult] = {}
        self._num_submitted = self._num_returned = 0
        self._workers: List[CRFWorker] = []
        self._closed = False
        try:
            self._replace_dead_workers()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------- the caller
    def submit(self, job: CRFJob) -> List[CRFResult]:
        """Hand a job in; blocks while ``max_pending`` jobs are open.

        Returns:
            Results that are ready by now, in order of submission.
        """
        results = self.ready()
        while self._num_open() >= self.max_pending:
            results += self._wait()
        item = (self._num_submitted, job)
        self._num_submitted += 1
        if self.num_workers == 0:
            self._finish(*item, refine(job[1:4], self._settings))
        else:
            with self._changed:
                self._waiting.append(item)
                self._changed.notify_all()
        return results + self.ready()

    def ready(self) -> List[CRFResult]:
        """Results that are ready by now, in order of submission."""
        with self._changed:
            if self._closed:
                raise RuntimeError('the DenseCRFPool is closed')
            self._replace_dead_workers()
            results = []
            while self._num_returned in self._finished:
                results.append(self._finished.pop(self._num_returned))
                self._num_returned += 1
            return results

    def drain(self) -> List[CRFResult]:
        """Wait for all open jobs; their results in order of submission."""
        results = self.ready()
        while self._num_open():
            results += self._wait()
        return results

    def map(self, jobs: Iterable[CRFJob]) -> Iterator[CRFResult]:
        """Results of ``jobs`` in their order; takes no more jobs than fit."""
        for job in jobs:
            yield from self.submit(job)
        while self._num_open():
            yield from self._wait()

    def close(self) -> None:
        """End the workers. Open jobs are dropped; a second call does nothing."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._finished.clear()
            self._changed.notify_all()
            workers, self._workers = self._workers, []
        for worker in workers:
            worker.kill()

    def __enter__(self) -> 'DenseCRFPool':
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def _num_open(self) -> int:
        return self._num_submitted - self._num_returned

    def _wait(self) -> List[CRFResult]:
        """Results once there is one, or once a worker has to be replaced."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._num_returned in self._finished
                    or any(worker.dead for worker in self._workers)
                )
            )
        return self.ready()

    def _replace_dead_workers(self) -> None:
        # In the caller's thread, as all forks: a fork between the making of
        # another worker's pipe and the closing of its far end would keep that
        # pipe open, and the death of that worker would go unnoticed.
        for worker in [worker for worker in self._workers if worker.dead]:
            worker.kill()
            self._workers.remove(worker)
        while len(self._workers) < self.num_workers:
            self._workers.append(CRFWorker(self._context, self._settings))
        for worker in self._workers:
            worker.serve_by(self._serve)

    # ------------------------------------------------- one thread per worker
    def _serve(self, worker: CRFWorker) -> None:
        alive = True
        while alive:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                index, job = self._waiting.popleft()
            reply, alive = worker.exchange(job[1:4])
            self._finish(index, job, reply)
        with self._changed:
            worker.dead = True
            self._changed.notify_all()

    def _finish(self, index: int, job: CRFJob, reply: Reply) -> None:
        if isinstance(reply, CRFMask):
            result = CRFResult(job.name, *reply, None, job.payload)
        else:
            result = CRFResult(
                job.name, None, None, f'dense CRF of {job.name}: {reply}', job.payload
            )
        with self._changed:
            self._finished[index] = result
            self._changed.notify_all()
