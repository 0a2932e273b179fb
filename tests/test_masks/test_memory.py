"""Memory is estimated before it is taken."""

import numpy as np
import pytest

from mmseg_more.masks import CRFJob, DenseCRFOptions, DenseCRFPool, memory, pool

MB = 2**20


def test_estimates():
    assert memory.crf_bytes((10, 20), 3) == (1500 + 30 * 3) * 200
    assert memory.map_bytes((10, 20), 3) == 16 * 3 * 200


def test_what_an_image_is_refused_with():
    assert memory.memory_error(100, 100, (10, 10)) is None
    assert memory.memory_error(100, None, (10, 10)) is None  # the system does not tell
    error = memory.memory_error(8 * 10**9, 2 * 10**9, (4000, 6000))
    assert error == (
        '4000x6000 pixels would need about 8.00 GB of memory, and 2.00 GB are free: lower '
        'max_pixels to 6000000, or make room'
    )
    assert 'max_pixels to 1,' in memory.memory_error(8, -5, (2, 2))


def machine(tmp_path, available=None, **files):
    """A system: /proc/meminfo, and files of the control groups by group."""
    if available is not None:
        (tmp_path / 'meminfo').write_text(f'MemFree: 1 kB\nMemAvailable: {available} kB\n')
    for name, content in files.items():
        path = tmp_path / 'groups' / name.replace('__', '/').replace('_dot_', '.')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / 'membership').write_text('0::/a/b\n4:memory:/a/b\n')
    return dict(
        meminfo=tmp_path / 'meminfo',
        root=tmp_path / 'groups',
        membership=tmp_path / 'membership',
    )


def test_free_memory(tmp_path):
    system = machine(tmp_path)
    assert memory.free_bytes(**system) is None
    system = machine(tmp_path, available=1000)
    assert memory.free_bytes(**system) == 1000 * 1024
    # version 2: the group around it has a limit; what files have filled can be had again
    machine(
        tmp_path,
        a__memory_dot_max='900000',
        a__memory_dot_current='500000',
        a__memory_dot_stat='anon 1\ninactive_file 100000\n',
        a__b__memory_dot_max='max',
        a__b__memory_dot_current='400000',
        a__b__memory_dot_stat='inactive_file 7\n',
    )
    assert memory.free_bytes(**system) == 500000
    # version 1
    machine(
        tmp_path,
        memory__a__memory_dot_limit_in_bytes='300000',
        memory__a__memory_dot_usage_in_bytes='200000',
        memory__a__memory_dot_stat='inactive_file 5\ntotal_inactive_file 50000\n',
    )
    assert memory.free_bytes(**system) == 150000


def job(name, size, keep_probs=False):
    generator = np.random.default_rng(0)
    probs = generator.random((2, *size), np.float32)
    image = generator.integers(0, 256, (*size, 3), np.uint8)
    return CRFJob(name, image, probs, np.arange(2), name, keep_probs=keep_probs)


@pytest.mark.parametrize('workers', [0, 1])
def test_an_image_that_is_too_large_fails_alone(workers, monkeypatch):
    monkeypatch.setattr(pool, 'free_bytes', lambda: memory.crf_bytes((20, 20), 2))
    begun = []
    real = pool._arrays
    monkeypatch.setattr(pool, '_arrays', lambda job: begun.append(job.name) or real(job))
    options = DenseCRFOptions(num_iters=1, bilateral_sxy=5.0)
    with DenseCRFPool(workers, options=options) as crf:
        results = list(crf.map([job('a', (20, 20)), job('b', (20, 21)), job('c', (9, 9))]))
    assert [result.error is None for result in results] == [True, False, True]
    assert results[1].error == (
        'dense CRF of b: 20x21 pixels would need about 0.00 GB of memory, and 0.00 GB are '
        'free: lower max_pixels to 400, or make room'
    )
    assert begun == ['a', 'c']


def test_workers_count_together(monkeypatch):
    """Two images that fit one after the other, but not at once."""
    monkeypatch.setattr(pool, 'free_bytes', lambda: memory.crf_bytes((20, 30), 2))
    options = DenseCRFOptions(num_iters=1, bilateral_sxy=5.0)
    with DenseCRFPool(2, options=options) as crf:
        most, results = 0, []
        for index in range(4):
            results += crf.submit(job(f'{index}', (20, 20)))
            most = max(most, sum(not one.future.done() for one in crf._open))
        results += crf.drain()
    assert [result.error for result in results] == [None] * 4
    assert most == 1
    with DenseCRFPool(1, options=options) as crf:  # one at a time: they may wait together
        assert [crf._has_room(pool._OpenJob(job('a', (20, 20))))] == [True]


def test_probabilities_are_kept_if_they_are_asked_for():
    for workers in (0, 1):
        with DenseCRFPool(workers) as crf:
            plain, kept = crf.map([job('a', (9, 12)), job('b', (9, 12), keep_probs=True)])
        assert plain.probs is None and kept.probs.shape == (2, 9, 12)
        assert (kept.probs.argmax(0) == kept.mask).all()
