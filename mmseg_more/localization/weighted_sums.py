"""Weighted sums of rows of a table: what PAR and the lattice consist of."""

from importlib.util import find_spec
from typing import Optional

import torch.nn.functional as F
from torch import Tensor

_ELEMENTS = 1024  # sums times channels that one block of threads works on
_MOST_CHANNELS = 32
_HAS_TRITON = find_spec('triton') is not None


def weighted_sums(
    table: Tensor, rows: Tensor, weights: Tensor, starts: Optional[Tensor] = None
) -> Tensor:
    """Sum rows of a table, each with its weight, always in the same order.

    There is no copy of the rows. On a CPU it is ``F.embedding_bag``; on a GPU that uses a
    thread per channel and leaves most of them idle where there are few, so that a kernel
    of Triton's takes its place where Triton is installed, as it is beside PyTorch for CUDA
    on Linux.

    Args:
        table: float32 ``(R, C)``, contiguous.
        rows: Numbers of rows, int32: ``(P, M)``, M for each sum, or ``(E, )`` with
            ``starts``.
        weights: float32, one for each of ``rows``.
        starts: First entry of each sum, int32 ``(P, )``, ascending; None for ``(P, M)``.

    Returns:
        float32 ``(P, C)``. No gradient.
    """
    if table.is_cuda and _HAS_TRITON:
        return sums_by_triton(table, rows, weights, starts)
    return F.embedding_bag(rows, table, starts, mode='sum', per_sample_weights=weights)


def sums_by_triton(
    table: Tensor, rows: Tensor, weights: Tensor, starts: Optional[Tensor] = None
) -> Tensor:
    """:func:`weighted_sums` by a kernel of Triton's, which is not everywhere."""
    from .weighted_sums_kernel import sum_rows

    count, channels = len(rows) if starts is None else len(starts), table.shape[1]
    result = table.new_empty(count, channels)
    if not result.numel():
        return result
    width = min(1 << (channels - 1).bit_length(), _MOST_CHANNELS)
    block = _ELEMENTS // width
    grid = (-(-count // block), -(-channels // width))
    sum_rows[grid](
        table,
        rows.contiguous(),
        weights.contiguous(),
        rows if starts is None else starts,
        result,
        count,
        rows.numel(),
        channels,
        rows.shape[-1],
        VARYING=starts is not None,
        BLOCK=block,
        WIDTH=width,
    )
    return result
