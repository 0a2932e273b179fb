"""The CRF in worker processes: order, bounds, failures, what is left behind."""

import multiprocessing
import os
import platform
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmseg_more.masks import cores as cores_module
from mmseg_more.masks import pool as pool_module
from mmseg_more.masks.dense_crf import CRFMask, DenseCRFOptions, dense_crf_mask
from mmseg_more.masks.pool import CRFJob, CRFQueue, DenseCRFPool, LatticeCRF, open_crf
from strategies import few_examples

WORKERS = 2


def make_job(index, size=(6, 8), channels=3, **kwargs):
    generator = np.random.default_rng(index)
    probs = generator.random((channels, *size), np.float32)
    return CRFJob(
        **{
            **dict(
                name=f'{index}.jpg',
                image=generator.integers(0, 256, (*size, 3), np.uint8),
                probs=probs / probs.sum(0),
                labels=np.array([0, 4, 7])[:channels],
                payload=index,
            ),
            **kwargs,
        }
    )


def expected_mask(job):
    return dense_crf_mask(job.image, job.probs, job.labels)


def workers():
    return [p for p in multiprocessing.active_children() if p.name == 'pebble_pool_worker']


@pytest.fixture(autouse=True)
def no_worker_is_left():
    yield
    assert not workers()


@pytest.fixture
def deadly(monkeypatch):
    """Forked workers die of images whose first pixel is black."""
    refine = pool_module.dense_crf_mask

    def refine_or_die(image, *args):
        if not image[0, 0].any():
            os.kill(os.getpid(), signal.SIGKILL)
        return refine(image, *args)

    monkeypatch.setattr(pool_module, 'dense_crf_mask', refine_or_die)


def black(job):
    return job._replace(image=np.zeros_like(job.image))


@pytest.mark.parametrize('num_workers', [0, 1, WORKERS])
def test_results_are_those_of_one_image_in_order(num_workers):
    jobs = [make_job(i, (40, 50) if i % 4 == 0 else (3, 4)) for i in range(12)]
    with DenseCRFPool(num_workers) as pool:
        results = list(pool.map(jobs))
    assert [r.payload for r in results] == list(range(12))
    for job, result in zip(jobs, results):
        mask, confidence = expected_mask(job)
        assert result.name == job.name and result.error is None
        assert result.mask.dtype == np.uint8
        assert (result.mask == mask).all()
        np.testing.assert_array_equal(result.confidence, confidence)


@pytest.mark.slow
def test_spawned_workers_give_the_same():
    jobs = [make_job(i) for i in range(3)]
    with DenseCRFPool(1, start_method='spawn') as pool:
        results = list(pool.map(jobs))
    for job, result in zip(jobs, results):
        assert result.error is None
        assert (result.mask == expected_mask(job).mask).all()


def test_no_more_than_max_pending_jobs_are_open():
    taken, returned = 0, 0

    def jobs():
        nonlocal taken
        for index in range(20):
            taken += 1
            assert taken - returned <= 3 + 1  # the new one is not open yet
            yield make_job(index)

    with DenseCRFPool(WORKERS, max_pending=3) as pool:
        for _ in pool.map(jobs()):
            returned += 1
    assert returned == 20


def test_submit_waits_for_the_oldest_job(monkeypatch):
    refine = pool_module.dense_crf_mask

    def slow(image, *args):
        time.sleep(0.3 if image.shape[0] > 10 else 0)
        return refine(image, *args)

    monkeypatch.setattr(pool_module, 'dense_crf_mask', slow)
    with DenseCRFPool(WORKERS, max_pending=2) as pool:
        results = pool.submit(make_job(0, (20, 20)))
        results += pool.submit(make_job(1))
        assert results == []
        results += pool.submit(make_job(2))
        assert results[0].payload == 0
        results += pool.drain()
    assert [r.payload for r in results] == [0, 1, 2]


@pytest.mark.parametrize('num_workers', [0, WORKERS])
@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(image=np.zeros((5, 8, 3), np.uint8)), 'uint8 RGB image'),
        (dict(labels=np.array([0, 300, 1])), '0..254'),
        (dict(labels=np.array([0, 1])), '3 channels'),
        (dict(probs=np.full((3, 6, 8), np.nan, np.float32)), 'finite'),
        (dict(image='not an array'), 'AttributeError'),
    ],
)
def test_a_failing_image_is_named_and_the_rest_goes_on(num_workers, wrong, message):
    jobs = [make_job(0), make_job(1, **wrong), make_job(2)]
    with DenseCRFPool(num_workers) as pool:
        before, failed, after = pool.map(jobs)
    assert message in failed.error and '1.jpg' in failed.error
    assert failed.mask is None and failed.confidence is None
    assert failed.payload == 1
    for job, result in ((jobs[0], before), (jobs[2], after)):
        assert (result.mask == expected_mask(job).mask).all()


def test_what_cannot_be_pickled_is_an_error_of_its_image():
    with DenseCRFPool(1) as pool:
        failed, after = pool.map([make_job(0, image=lambda: None), make_job(1)])
    assert '0.jpg' in failed.error and after.error is None


def test_payload_stays_in_this_process():
    payload = (value for value in ['cannot be pickled'])
    with DenseCRFPool(1) as pool:
        (result,) = pool.map([make_job(0, payload=payload)])
    assert result.payload is payload


@pytest.mark.parametrize('num_workers', [1, WORKERS])
def test_a_killed_worker_costs_its_image_alone(num_workers, deadly):
    jobs = [make_job(i) for i in range(10)]
    dying = (0, 3, 4, 9)
    for index in dying:
        jobs[index] = black(jobs[index])
    with DenseCRFPool(num_workers, max_pending=4) as pool:
        results = list(pool.map(jobs))
        deadline = time.monotonic() + 10
        while len(workers()) < num_workers and time.monotonic() < deadline:
            time.sleep(0.05)  # a worker is replaced within tenths of a second
        assert len(workers()) == num_workers
    assert [r.payload for r in results] == list(range(10))
    for job, result in zip(jobs, results):
        if result.payload in dying:
            assert 'exit code -9' in result.error and job.name in result.error
            assert result.mask is None
        else:
            assert (result.mask == expected_mask(job).mask).all()


def test_a_worker_that_dies_idle_costs_at_most_one_image():
    with DenseCRFPool(1) as pool:
        assert len(list(pool.map([make_job(0)]))) == 1
        (process,) = workers()
        process.kill()
        process.join()
        results = list(pool.map([make_job(1), make_job(2)]))
    assert [r.error is not None for r in results] in ([False, False], [True, False])


def test_all_workers_end_after_an_exception(deadly):
    with pytest.raises(KeyError, match='of the caller'):
        with DenseCRFPool(WORKERS) as pool:
            for index in range(4):
                pool.submit(make_job(index, (60, 60)))
            pool.submit(black(make_job(4)))
            raise KeyError('of the caller')
    assert not workers()
    pool.close()
    with pytest.raises(RuntimeError, match='closed'):
        pool.submit(make_job(0))


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed():
    code = (
        'import sys, time, multiprocessing\n'
        'from mmseg_more.masks.pool import DenseCRFPool\n'
        'pool = DenseCRFPool(3)\n'
        'print(*(p.pid for p in multiprocessing.active_children()))\n'
        'sys.stdout.flush()\n'
        'time.sleep(600)\n'
    )
    parent = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    try:
        # the workers have inherited this pipe, which ends with the last of them
        parent.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        raise
    assert len(pids) == 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_workers_end_although_another_process_holds_their_pipe():
    code = (
        'import os, sys, time, multiprocessing\n'
        'from mmseg_more.masks.pool import DenseCRFPool\n'
        'pool = DenseCRFPool(2)\n'
        'pids = [p.pid for p in multiprocessing.active_children()]\n'
        'other = os.fork()\n'
        'if other: print(other, *pids, flush=True)\n'
        'time.sleep(600)\n'
    )
    parent = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
    other, *pids = (int(pid) for pid in parent.stdout.readline().split())
    parent.kill()
    try:
        deadline = time.monotonic() + 60
        while any(map(is_running, pids)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert is_running(other) and not any(map(is_running, pids))
    finally:
        for pid in filter(is_running, (other, *pids)):
            os.kill(pid, signal.SIGKILL)
        parent.communicate()


def is_running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] not in 'ZX'
    except FileNotFoundError:
        return False


_COUNT_NEW_PAGES = """
import resource
import sys
sys.path[:0] = {paths!r}
import numpy as np
from mmseg_more.masks import cores as cores_module
from mmseg_more.masks import pool as pool_module
from mmseg_more.masks.dense_crf import CRFMask
from test_pool import make_job

def count_new_pages(image, probs, labels, *_):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b'x' * {size}
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return CRFMask(image[..., 0], np.array([after - before]))

pool_module.dense_crf_mask = count_new_pages
with pool_module.DenseCRFPool(num_workers=1, start_method='fork') as pool:
    for result in pool.map(make_job(index) for index in range(2)):
        print(result.confidence[0])
"""


@pytest.mark.slow
def test_a_worker_keeps_its_large_buffers(repo_root):
    """The pages of a freed buffer are not asked of the system again (by glibc).

    In a process of its own: after an allocation that failed, as other tests have them made
    by damaged files, glibc serves a process and what it forks from a place that is too
    small for such buffers.
    """
    size = 2**26
    paths = [str(repo_root), str(repo_root / 'tests'), str(repo_root / 'tests/test_masks')]
    done = subprocess.run(
        [sys.executable, '-c', _COUNT_NEW_PAGES.format(paths=paths, size=size)],
        env=dict(os.environ, CUDA_VISIBLE_DEVICES='-1'),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    pages = size // resource.getpagesize()
    assert first > 0.9 * pages
    if platform.libc_ver()[0] == 'glibc':
        assert second < 0.1 * pages


def size_of(job):
    """Bytes of an open job: what goes in, and the label and confidence of each pixel."""
    return job.image.nbytes + job.probs.nbytes + 5 * job.probs[0].size


def test_no_more_than_max_bytes_are_open():
    """And one job is always admitted, however large."""
    size = size_of(make_job(0))
    taken, returned = 0, 0

    def jobs():
        nonlocal taken
        for index in range(12):
            taken += 1
            assert taken - returned <= 2 + 1  # the new one is not open yet
            yield make_job(index, (60, 80) if index == 5 else (6, 8))

    with DenseCRFPool(WORKERS, max_pending=100, max_bytes=2 * size + 1) as pool:
        for result in pool.map(jobs()):
            assert result.error is None and result.payload == returned
            returned += 1
    assert returned == 12


@pytest.mark.slow
def test_an_image_that_takes_too_long_fails_alone(monkeypatch):
    refine = pool_module.dense_crf_mask

    def slow(image, *args):
        if not image[0, 0].any():
            time.sleep(600)
        return refine(image, *args)

    monkeypatch.setattr(pool_module, 'dense_crf_mask', slow)
    jobs = [make_job(0), black(make_job(1)), make_job(2)]
    with DenseCRFPool(1, timeout=2.0) as pool:
        before, failed, after = pool.map(jobs)
    assert failed.error == 'dense CRF of 1.jpg: it took longer than 2.0 s (crf_timeout)'
    for job, result in ((jobs[0], before), (jobs[2], after)):
        assert (result.mask == expected_mask(job).mask).all()


@pytest.mark.parametrize('num_workers', [0, 1])
def test_tensors_are_refined_like_arrays(num_workers):
    job = make_job(0)
    tensors = [torch.from_numpy(array) for array in (job.image, job.probs, job.labels)]
    with DenseCRFPool(num_workers) as pool:
        (result,) = pool.map([job._replace(probs=tensors[1], labels=tensors[2])])
    assert (result.mask == expected_mask(job).mask).all()


def test_workers_run_the_lattice_in_one_thread(monkeypatch):
    """Threads of the process that forked them would be missing there."""
    refine = pool_module.dense_crf_mask

    def with_threads(*args):
        mask, confidence = refine(*args)
        return CRFMask(mask, confidence * 0 + torch.get_num_threads())

    monkeypatch.setattr(pool_module, 'dense_crf_mask', with_threads)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        job = make_job(0, (100, 120))
        # leave threads behind that a fork does not copy
        expected = dense_crf_mask(job.image, job.probs, job.labels, backend='lattice')
        with DenseCRFPool(1, backend='lattice', timeout=60) as pool:
            (result,) = pool.map([job])
    finally:
        torch.set_num_threads(before)
    assert result.confidence.tolist() == [1.0, 1.0, 1.0]
    assert (result.mask == expected.mask).mean() > 0.999


def test_workers_leave_ctrl_c_and_the_cores_to_others(monkeypatch):
    def settings(image, probs, labels, *_):
        os.kill(os.getpid(), signal.SIGINT)
        return CRFMask(image[..., 0], np.array([os.nice(0)]))

    monkeypatch.setattr(pool_module, 'dense_crf_mask', settings)
    with DenseCRFPool(1) as pool:
        (result,) = pool.map([make_job(0)])
    assert result.confidence[0] == min(19, os.nice(0) + 10)


def test_closing_does_not_wait_for_the_image_at_hand():
    """Nor does it give each worker the library's three seconds to end by itself."""
    endless = DenseCRFOptions(num_iters=10**6)
    pool = DenseCRFPool(4, options=endless, backend='pydensecrf')
    for index in range(6):
        pool.submit(make_job(index, (100, 120)))
    time.sleep(1)
    start = time.monotonic()
    pool.close()
    assert not workers()
    assert time.monotonic() - start < 8


# ------------------------------------------------------------ without processes
def test_lattice_crf_gives_what_one_image_gives():
    """Images of several sizes, numbers of channels and kinds of input."""
    jobs = [
        make_job(i, (40, 50) if i % 4 == 0 else (3, 4), channels=1 + i % 3)
        for i in range(12)
    ]
    for index in (2, 4):
        jobs[index] = jobs[index]._replace(
            probs=torch.from_numpy(jobs[index].probs),
            labels=torch.from_numpy(jobs[index].labels),
        )
    with LatticeCRF(batch_bytes=2 * (jobs[1].probs.nbytes + jobs[1].image.nbytes)) as crf:
        results = list(crf.map(jobs))
    assert [r.payload for r in results] == list(range(12))
    for job, result in zip(jobs, results):
        expected = dense_crf_mask(job.image, job.probs, job.labels, backend='lattice')
        assert result.name == job.name and result.error is None
        assert result.mask.dtype == np.uint8
        assert (result.mask == expected.mask).all()
        np.testing.assert_array_equal(result.confidence, expected.confidence)


def test_lattice_crf_refines_images_of_one_size_together(monkeypatch):
    batches = []
    refine = pool_module.dense_crf_batch

    def noting(images, *args):
        batches.append([len(image) for image in images])
        return refine(images, *args)

    monkeypatch.setattr(pool_module, 'dense_crf_batch', noting)
    small, large = make_job(0), make_job(0, (9, 8))
    size = small.probs.nbytes + small.image.nbytes
    with LatticeCRF(batch_bytes=2 * size) as crf:
        assert crf.submit(small) == [] and batches == []
        crf.submit(large)
        assert batches == [] or batches == [[9]]  # it may fill a batch of its own
        batches.clear()
        assert len(crf.submit(small)) >= 1
        assert [6, 6] in batches
        batches.clear()
        crf.submit(small)
        crf.drain()
        assert [6] in batches


def test_lattice_crf_is_bounded():
    size = size_of(make_job(0))
    with LatticeCRF(max_bytes=2 * size - 1) as crf:
        assert crf.submit(make_job(0)) == []
        assert [r.payload for r in crf.submit(make_job(1))] == [0]
    for bound in (dict(max_bytes=2 * size), dict(max_pending=2)):
        with LatticeCRF(**bound) as crf:
            assert crf.submit(make_job(0)) == crf.submit(make_job(1)) == []
            assert [r.payload for r in crf.submit(make_job(2))] == [0, 1]
            assert [r.payload for r in crf.drain()] == [2]


def test_one_of_a_batch_fails_alone(monkeypatch):
    refine = pool_module.dense_crf_batch

    def small_memory(images, *args):
        if len(images) > 1 or images[0] is jobs[1].image:
            raise RuntimeError('out of memory')
        return refine(images, *args)

    monkeypatch.setattr(pool_module, 'dense_crf_batch', small_memory)
    jobs = [make_job(0), black(make_job(1)), make_job(2, labels=np.array([0, 1]))]
    jobs.append(make_job(3, image='not an array'))
    with LatticeCRF() as crf:
        good, *failed = crf.map(jobs)
    assert (good.mask == expected_mask(jobs[0]).mask).all()
    assert failed[0].error == 'dense CRF of 1.jpg: RuntimeError: out of memory'
    assert '2.jpg' in failed[1].error and '3 channels' in failed[1].error
    assert '3.jpg' in failed[2].error and 'AttributeError' in failed[2].error


def test_lattice_crf_is_closed():
    with LatticeCRF() as crf:
        crf.submit(make_job(0))
    with pytest.raises(RuntimeError, match='LatticeCRF is closed'):
        crf.drain()


@pytest.mark.parametrize(
    'backend, device, kind',
    [
        ('auto', 'cpu', DenseCRFPool),
        ('lattice', 'cpu', DenseCRFPool),
        ('pydensecrf', torch.device('cpu'), DenseCRFPool),
        ('auto', torch.device('cuda', 0), LatticeCRF),
        ('lattice', 'cuda', LatticeCRF),
        ('pydensecrf', 'cuda', DenseCRFPool),
    ],
)
def test_open_crf(backend, device, kind):
    options = DenseCRFOptions(num_iters=1)
    with open_crf(options, 0.0, backend, device, num_workers=0, max_bytes=1) as crf:
        assert type(crf) is kind and crf.max_bytes == 1
        job = make_job(0)
        (result,) = crf.map([job])
    expected = dense_crf_mask(job.image, job.probs, job.labels, options, 0.0)
    assert (result.mask == expected.mask).all()


def test_open_crf_with_an_unknown_backend():
    for device in ('cpu', 'cuda'):
        with pytest.raises(ValueError, match='backend must be one of'):
            open_crf(backend='gpu', device=device)


def test_an_argument_out_of_range():
    for wrong in (dict(num_workers=-1), dict(max_pending=0), dict(epsilon=1.0)):
        with pytest.raises(ValueError, match='expected num_workers'):
            DenseCRFPool(**wrong)
    for wrong in (dict(max_bytes=0), dict(timeout=0)):
        with pytest.raises(ValueError, match='expected max_bytes'):
            DenseCRFPool(**wrong)
    with pytest.raises(ValueError, match='backend must be one of'):
        DenseCRFPool(backend='gpu')
    for wrong in (dict(max_bytes=0), dict(batch_bytes=0), dict(epsilon=1.0)):
        with pytest.raises(ValueError, match='expected epsilon'):
            LatticeCRF(**wrong)


class AnyOrder(CRFQueue):
    """Finishes its open jobs in an order that is drawn, one now and then, or on demand."""

    def __init__(self, choose, **bounds):
        super().__init__(**bounds)
        self.choose, self.most, self.most_bytes = choose, 0, 0

    def _unfinished(self):
        return [one for one in self._open if not one.future.done()]

    def _finish(self, one):
        one.future.set_result(f'is {one.job.payload}')

    def _start(self, new):
        self.most = max(self.most, len(self._open))
        if len(self._open) > 1:
            self.most_bytes = max(self.most_bytes, sum(one.num_bytes for one in self._open))
        if self.choose(2):
            unfinished = self._unfinished()
            self._finish(unfinished[self.choose(len(unfinished))])

    def _wait_for_oldest(self):
        unfinished = self._unfinished()
        self._finish(unfinished[self.choose(len(unfinished))])


@given(
    st.data(),
    st.lists(st.integers(0, 300), max_size=12),
    st.integers(1, 5),
    st.integers(1, 800),
)
def test_order_and_bounds_whatever_is_finished_first(data, held, max_pending, max_bytes):
    jobs = [CRFJob(str(i), None, None, None, i, size) for i, size in enumerate(held)]

    def choose(count):
        return data.draw(st.integers(0, count - 1))

    with AnyOrder(choose, max_bytes=max_bytes, max_pending=max_pending) as queue:
        results = []
        for job in jobs[: len(jobs) // 2]:
            results += queue.submit(job)
        results += queue.drain()
        assert [result.payload for result in results] == list(range(len(jobs) // 2))
        results += queue.map(jobs[len(jobs) // 2 :])
    assert [result.payload for result in results] == list(range(len(jobs)))
    assert [result.error for result in results] == [
        f'dense CRF of {i}: is {i}' for i in range(len(jobs))
    ]
    assert queue.most <= max_pending and queue.most_bytes <= max_bytes


@pytest.mark.slow
@few_examples
@given(st.lists(st.sampled_from((0.0, 0.02, 0.05)), max_size=8), st.integers(0, 3))
def test_order_whatever_takes_long(delays, num_workers):
    refine = pool_module.dense_crf_mask

    def slow(image, *args):
        time.sleep(delays[image[0, 0, 0]])
        return refine(image, *args)

    jobs = [make_job(i) for i in range(len(delays))]
    for index, job in enumerate(jobs):
        job.image[0, 0, 0] = index
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, 'dense_crf_mask', slow)  # forked workers have it too
        with DenseCRFPool(num_workers) as pool:
            results = list(pool.map(jobs))
    assert [result.payload for result in results] == list(range(len(jobs)))
    assert all(result.error is None for result in results)


def test_one_worker_per_core_of_each_process_of_a_launcher(monkeypatch):
    """torchrun tells its processes how many they are on this machine."""
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(cores_module, 'cgroup_cores', lambda: float('inf'))
    monkeypatch.setattr(DenseCRFPool, '_new_pool', lambda self: None)
    for world, workers in (('1', 6), ('2', 3), ('4', 1), ('8', 1)):
        monkeypatch.setenv('LOCAL_WORLD_SIZE', world)
        with DenseCRFPool() as pool, open_crf() as opened:
            assert pool.num_workers == opened.num_workers == workers
            assert pool.max_pending == 4 * workers
        with DenseCRFPool(5) as pool:  # a number that is given is that of each process
            assert pool.num_workers == 5


def test_workers_are_forked_unless_it_is_said(monkeypatch):
    monkeypatch.setattr(DenseCRFPool, '_new_pool', lambda self: None)
    default = 'fork' if sys.platform == 'linux' else 'spawn'
    for given_method, method in ((None, default), ('spawn', 'spawn')):
        with DenseCRFPool(1, start_method=given_method) as pool:
            assert pool._context.get_start_method() == method
