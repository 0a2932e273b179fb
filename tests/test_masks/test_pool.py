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

from mmseg_more.masks import pool as pool_module
from mmseg_more.masks.dense_crf import CRFMask, dense_crf_mask
from mmseg_more.masks.pool import CRFJob, DenseCRFPool

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


def test_a_worker_keeps_its_large_buffers(monkeypatch):
    """The pages of a freed buffer are not asked of the system again (by glibc)."""
    size = 2**26

    def count_new_pages(image, probs, labels, *_):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        b'x' * size
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        return CRFMask(image[..., 0], np.array([after - before]))

    monkeypatch.setattr(pool_module, 'dense_crf_mask', count_new_pages)
    with DenseCRFPool(num_workers=1, start_method='fork') as pool:
        first, second = pool.map(make_job(index) for index in range(2))
    pages = size // resource.getpagesize()
    assert first.confidence[0] > 0.9 * pages
    if platform.libc_ver()[0] == 'glibc':
        assert second.confidence[0] < 0.1 * pages


def test_an_argument_out_of_range():
    for wrong in (dict(num_workers=-1), dict(max_pending=0), dict(epsilon=1.0)):
        with pytest.raises(ValueError, match='expected num_workers'):
            DenseCRFPool(**wrong)
