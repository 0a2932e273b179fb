"""Sums of rows of a table, against the formula; Triton's kernel in its interpreter."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch.testing import assert_close

from mmseg_more.localization.weighted_sums import weighted_sums


def example(channels, count=37, entries=5, seed=0):
    """A table, and for each of ``count`` sums ``entries`` rows and weights."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(50, channels, generator=generator)
    rows = torch.randint(0, 50, (count, entries), generator=generator, dtype=torch.int32)
    return table, rows, torch.randn(count, entries, generator=generator)


def varying_example(channels, lengths=(3, 0, 7, 1, 0, 12, 2), seed=0):
    """As :func:`example`, each sum of another number of rows."""
    total = sum(lengths)
    table, rows, weights = example(channels, total, 1, seed)
    starts = torch.tensor([0, *lengths]).cumsum(0)[:-1].int()
    return table, rows[:, 0], weights[:, 0], starts


def by_formula(table, rows, weights, starts=None):
    products = table[rows.long()] * weights[..., None]
    if starts is None:
        return products.sum(1)
    ends = [*starts[1:].tolist(), len(rows)]
    return torch.stack(
        [products[first:end].sum(0) for first, end in zip(starts.tolist(), ends)]
    )


CHANNELS = (1, 3, 8, 21, 40)


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('make', [example, varying_example])
def test_formula(make, channels):
    inputs = make(channels)
    assert_close(weighted_sums(*inputs), by_formula(*inputs))


_INTERPRETED = """
import sys
sys.path[:0] = {paths!r}
from torch.testing import assert_close
from mmseg_more.localization.weighted_sums import sums_by_triton
from test_weighted_sums import CHANNELS, by_formula, example, varying_example
for channels in CHANNELS:
    for inputs in (
        example(channels),
        example(channels, count=1500, entries=48),
        example(channels, count=0),
        varying_example(channels),
        varying_example(channels, lengths=range(600)),
    ):
        assert_close(sums_by_triton(*inputs), by_formula(*inputs), rtol=1e-4, atol=1e-4)
print('equal')
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec('triton') is None, reason='needs triton')
def test_kernel_in_the_interpreter(repo_root):
    paths = [str(repo_root), str(repo_root / 'tests' / 'test_localization')]
    done = subprocess.run(
        [sys.executable, '-c', _INTERPRETED.format(paths=paths)],
        env=dict(os.environ, TRITON_INTERPRET='1', CUDA_VISIBLE_DEVICES='-1'),
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith('equal\n'), done.stderr
