"""Checkpoints that are whole, and which of them is the newest."""

import io
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.fileio import get_file_backend

from mmseg_more.engine.checkpoint_files import (
    WholeFileBackend,
    damage,
    newest_whole,
    remove_temporaries,
)


@pytest.fixture
def saved(tmp_path):
    """Write iter_N.pth, each a second younger than the one before."""

    def save(number, seconds=None):
        path = tmp_path / f'iter_{number}.pth'
        torch.save(dict(weight=torch.arange(1000.0) + number), path)
        if seconds is not None:
            os.utime(path, (seconds, seconds))
        return path

    return save


def cut(path, size=2000):
    with open(path, 'r+b') as file:
        file.truncate(size)


def test_whole_and_damaged(saved, tmp_path):
    path = saved(2)
    assert damage(path) is None
    content = path.read_bytes()
    assert damage(tmp_path / 'none.pth') == 'it does not exist'
    for size in (0, 1, 2000, len(content) - 1):
        cut(path, size)
        assert f'{size} bytes, cut off' in damage(path)
    # a block of a disk that was never written, all else in place
    middle = content.index(torch.arange(500.0, 510.0).add(2).numpy().tobytes())
    path.write_bytes(content[:middle] + bytes(40) + content[middle + 40 :])
    assert 'is damaged' in damage(path)
    assert damage(tmp_path) is None  # a folder, as some strategies write


def newest(tmp_path, named=None):
    return newest_whole(tmp_path, 'iter_{}.pth', named)


def test_the_named_one_is_taken(saved, tmp_path):
    first, second = saved(2, 100), saved(10, 200)
    assert newest(tmp_path, second).path == second
    assert newest(tmp_path).path == second  # nothing is named
    assert newest(tmp_path / 'none').path is None
    assert first.is_file()


def test_killed_before_the_name_was_changed(saved, tmp_path):
    first, second = saved(9, 100), saved(10, 200)
    assert newest(tmp_path, first).path == second
    cut(second)
    found = newest(tmp_path, first)
    assert found.path == first
    (skipped,) = found.skipped
    assert skipped.startswith(str(second)) and 'cut off' in skipped


def test_a_longer_training_of_long_ago_is_not_newer(saved, tmp_path):
    """Its checkpoints are in the folder still; nor is a copy of an early one."""
    saved(20000, 100)
    named = saved(400, 200)
    saved(300, 300)
    assert newest(tmp_path, named).path == named


def test_damaged_ones_are_skipped(saved, tmp_path):
    first, second, third = saved(2, 100), saved(4, 200), saved(6, 300)
    cut(third)
    assert newest(tmp_path, third).path == second
    cut(second, 0)
    found = newest(tmp_path, third)
    assert found.path == first
    assert [str(third) in found.skipped[0], str(second) in found.skipped[1]] == [True] * 2
    cut(first)
    assert newest(tmp_path, third) == (None, newest(tmp_path, third).skipped)
    gone = tmp_path / 'elsewhere' / 'iter_6.pth'
    assert 'does not exist' in newest(tmp_path, gone).skipped[0]


def test_other_names_are_not_looked_at(saved, tmp_path):
    path = saved(2)
    path.rename(tmp_path / 'best_seg_mIoU_iter_2.pth')
    (tmp_path / 'iter_x.pth').write_bytes(b'')
    assert newest(tmp_path) == (None, [])


def test_leftovers_of_a_killed_run_go(tmp_path):
    names = ['.iter_4.pth.abcd_123', '.best_mIoU_iter_4.pth.abcd_123']
    names += ['.last_checkpoint.abcd_123']
    kept = ['iter_2.pth', '.iter_4.pth', '.other.pth.abcd_123', 'last_checkpoint']
    for name in (*names, *kept):
        (tmp_path / name).write_text('')
    removed = remove_temporaries(tmp_path, 'iter_{}.pth')
    assert {path.name for path in removed} == set(names)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_mmengine_finds_the_backend(tmp_path):
    backend = get_file_backend(tmp_path, backend_args=dict(backend='whole_file'))
    assert isinstance(backend, WholeFileBackend)
    backend.put_text('text', tmp_path / 'below' / 'name')
    assert (tmp_path / 'below' / 'name').read_text() == 'text'
    assert not isinstance(get_file_backend(tmp_path), WholeFileBackend)


def checkpoint_bytes():
    buffer = io.BytesIO()
    torch.save(dict(weight=torch.arange(40.0), step=torch.tensor(3)), buffer)
    return buffer.getvalue()


WHOLE = checkpoint_bytes()


@given(st.integers(0, len(WHOLE) - 1))
def test_cut_at_any_byte(size):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'iter_1.pth'
        path.write_bytes(WHOLE)
        assert damage(path) is None
        cut(path, size)
        assert damage(path) is not None


@st.composite
def saved_checkpoints(draw):
    """Iteration -> seconds of its file and whether it is whole."""
    numbers = draw(st.lists(st.integers(1, 12), unique=True, max_size=5))
    return {n: (draw(st.integers(1, 4)), draw(st.booleans())) for n in numbers}


@given(st.data(), saved_checkpoints())
def test_the_newest_whole_one_of_any(data, files):
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for number, (seconds, whole) in files.items():
            paths[number] = Path(folder) / f'iter_{number}.pth'
            paths[number].write_bytes(WHOLE if whole else WHOLE[:100])
            os.utime(paths[number], (seconds, seconds))
        named = data.draw(st.sampled_from([None, *sorted(files)]))
        found = newest(Path(folder), paths.get(named))
        broken = [str(paths[n]) for n, (_, whole) in files.items() if not whole]
        whole = [n for n in files if files[n][1]]
        assert (found.path is None) == (not whole)
        for line in found.skipped:
            assert any(line.startswith(path) for path in broken)
        if not whole:
            assert len(found.skipped) == len(broken)
            return
        (number,) = (n for n in whole if paths[n] == found.path)

        def beats_the_named(n):
            return n > named and files[n][0] >= files[named][0]

        if named is None or not files[named][1] and not any(map(beats_the_named, whole)):
            assert (files[number][0], number) == max((files[n][0], n) for n in whole)
        elif any(map(beats_the_named, whole)):
            assert beats_the_named(number)
        else:
            assert number == named
