"""One run at a time in a folder of masks."""

import errno
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from mask_run import files, mask_config, mask_environment, run, run_masks
from mmseg_more.masks import MaskFolder
from mmseg_more.masks.lock import FolderLock

HOLDER = """
import sys, time
from pathlib import Path
from mmseg_more.masks.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.acquire()
print('held', flush=True)
time.sleep(600)
"""


@pytest.fixture
def other_run(tmp_path):
    """Another process that holds the lock of the folder."""
    process = subprocess.Popen(
        [sys.executable, '-c', HOLDER, tmp_path],
        stdout=subprocess.PIPE,
        env=mask_environment(),
    )
    assert process.stdout.readline() == b'held\n'
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_second_run_says_who_holds_the_folder(tmp_path, other_run):
    lock = FolderLock(tmp_path)
    with pytest.raises(BlockingIOError) as error:
        lock.acquire()
    message = str(error.value)
    assert f'process {other_run.pid} on ' in message and ' since 20' in message
    assert str(tmp_path) in message and 'choose another folder' in message
    assert not lock.held
    # it still has it: asking does not take it away
    with pytest.raises(BlockingIOError, match=f'process {other_run.pid} on'):
        FolderLock(tmp_path).acquire()


@pytest.mark.slow
def test_the_lock_of_a_killed_run_is_gone(tmp_path, other_run):
    other_run.kill()
    other_run.wait()
    assert (tmp_path / FolderLock.NAME).exists()  # what it left behind
    lock = FolderLock(tmp_path)
    lock.acquire()
    assert str(os.getpid()) in (tmp_path / FolderLock.NAME).read_text()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_twice_in_one_process(tmp_path):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    first.acquire()  # that it holds already
    with pytest.raises(BlockingIOError, match=f'process {os.getpid()} on'):
        second.acquire()
    second.release()  # of what it does not hold
    with pytest.raises(BlockingIOError):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


@pytest.mark.slow
def test_asking_twice_in_one_process_does_not_end_it(tmp_path):
    """The system ends the lock of a process that opens and closes the file once more."""
    lock = FolderLock(tmp_path)
    lock.acquire()
    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path).acquire()
    asked = ask(tmp_path)
    assert asked.returncode == 1 and f'process {os.getpid()} on' in asked.stderr.decode()
    lock.release()
    assert ask(tmp_path).returncode == 0


def ask(folder):
    """Another process that takes the lock of a folder, and ends."""
    return subprocess.run(
        [sys.executable, '-c', HOLDER.replace('time.sleep(600)', ''), folder],
        capture_output=True,
        env=mask_environment(),
    )


def test_a_forked_process_does_not_give_it_back(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    worker = multiprocessing.get_context('fork').Process(target=lock.release)
    worker.start()
    worker.join()
    assert worker.exitcode == 0 and lock.path.exists()
    lock.release()
    assert not lock.path.exists()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr('fcntl.lockf', refuse)
    with pytest.raises(OSError, match='does not lock files.*choose a folder on another'):
        FolderLock(tmp_path).acquire()


@pytest.mark.slow
def test_a_forked_worker_does_not_keep_it(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,))
    worker.start()
    lock.release()
    try:
        asked = ask(tmp_path)
        assert asked.returncode == 0 and asked.stdout == b'held\n'
    finally:
        worker.kill()
        worker.join()


def test_the_mask_run_takes_it_and_gives_it_back(data, finished, tmp_path):
    run_masks(data, tmp_path / 'masks')
    assert files(tmp_path / 'masks') == files(finished)  # no lock is left
    folder = MaskFolder(tmp_path / 'masks')
    folder.acquire()
    cfg = mask_config(data, tmp_path / 'masks')
    cfg.load_from = 'nowhere.pth'  # a second run does not get that far
    with pytest.raises(BlockingIOError, match='masks are being written there by process'):
        run(cfg)
    folder.release()
    run(mask_config(data, tmp_path / 'masks'))
