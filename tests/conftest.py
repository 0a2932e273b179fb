"""What all tests share. Helpers to import lie beside this file (pyproject.toml)."""

import gc
import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests are for any machine: MMEngine would choose a GPU where it sees one. Set before
# torch is imported, which reads it once.
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '-1')

import torch

# Before mmpretrain, which a test may import first: beside a recent transformers it cannot
# be imported by itself (mmseg_more/compat.py).
import mmseg_more  # noqa: F401

# Every test machine has two cores at least; more threads slow the tiny tensors down, and
# sums in another order would make close comparisons depend on the machine.
torch.set_num_threads(2)

# Property tests draw the same few examples in every run of the suite, however busy the
# machine. `--hypothesis-profile search` draws many that no run has drawn before, and keeps
# those that fail in .hypothesis/ for the next run.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    'suite', _COMMON, max_examples=25, derandomize=True, database=None
)
settings.register_profile('search', _COMMON, max_examples=2000, print_blob=True)
settings.load_profile('suite')


def pytest_collection_finish() -> None:
    """Keep what the imports made out of later garbage collections.

    MMEngine collects garbage for each data set that it builds, and half a million objects
    of torch and others make that take .2 s.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def signals_as_before():
    """What a test leaves to answer a signal would meet the signals of later tests."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Skip what asks for pydensecrf where it is not installed, as on Python 3.13."""
    try:
        return (yield)
    except ImportError as error:
        if 'pydensecrf is not installed' in str(error) and find_spec('pydensecrf') is None:
            pytest.skip(str(error))
        raise


@pytest.fixture
def data_dir() -> Path:
    """Folder of the reference arrays."""
    return Path(__file__).parent / 'data'


@pytest.fixture
def repo_root() -> Path:
    """The checkout, with configs/ and tools/."""
    return Path(__file__).parent.parent


@pytest.fixture
def mistake_of(capsys):
    """The one line that a command prints about what it cannot work with."""

    def mistake_of(function, *arguments):
        with pytest.raises(SystemExit) as stop:
            function(*arguments)
        assert stop.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith('error: ')
        return line

    return mistake_of


@pytest.fixture
def one_thread():
    """Threads wait for each other, which takes long where other tests run too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
