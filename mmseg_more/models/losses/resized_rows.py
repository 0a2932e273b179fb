"""Losses of resized logits, of which only some rows are in memory at a time."""

import math
from typing import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...localization.maps import linear_weights

# Resized logits that are made at once. On a CPU the next operation finds them in the cache,
# or at least they take memory that is not cleared by the system first.
_BLOCK_BYTES = dict(cpu=2**23, cuda=2**29)


def fit_at_once(logits: Tensor, size: Sequence[int]) -> bool:
    """Whether logits resized to ``size`` are so few that rows need not take turns.

    Args:
        logits: ``(B, C, h, w)``.
        size: ``(H, W)``.
    """
    resized = logits.element_size() * math.prod(logits.shape[:2]) * math.prod(size)
    return resized <= _block_bytes(logits)


def map_rows(
    function: Callable[[Tensor, slice], Tensor],
    logits: Tensor,
    size: Sequence[int],
    multiple: int = 1,
) -> Tensor:
    """Apply a function to logits that are resized bilinearly (align_corners False).

    The logits of hundreds of classes for each pixel are large. Where they are, rows take
    turns, and are made anew for the gradient.

    Args:
        function: Of resized logits ``(B, rows, W, C)`` and of the slice of rows that they
            are; its result has rows in dimension 1, too.
        logits: ``(B, C, h, w)``.
        size: ``(H, W)``.
        multiple: The function takes so many rows or a multiple of it, but for the last
            ones.

    Returns:
        The results for all rows, one below the other.
    """
    height, width = size
    batch_size, channels, *grid = logits.shape
    row_weights, column_weights = (
        linear_weights(source, target, logits.device).to(logits.dtype)
        for source, target in zip(grid, size)
    )
    at_grid = logits.permute(0, 2, 3, 1).contiguous()  # (B, h, w, C)

    def of_block(at_grid: Tensor, rows: slice) -> Tensor:
        # (rows, h) x (B, h, w C), then (W, w) x (B, rows, w, C)
        resized = (row_weights[rows] @ at_grid.flatten(2)).unflatten(2, at_grid.shape[2:])
        return function(column_weights @ resized, rows)

    bytes_of_row = logits.element_size() * batch_size * channels * width
    at_once = _block_bytes(logits) // bytes_of_row
    at_once = max(at_once // multiple, 1) * multiple
    if at_once + multiple > height or torch.compiler.is_compiling():
        return of_block(at_grid, slice(0, height))
    # what is less than a multiple goes to the last block
    borders = [*range(0, height - multiple + 1, at_once), height]
    results = [
        checkpoint(
            of_block,
            at_grid,
            slice(first, end),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for first, end in zip(borders, borders[1:])
    ]
    return torch.cat(results, dim=1)


def _block_bytes(logits: Tensor) -> int:
    return _BLOCK_BYTES.get(logits.device.type, 2**23)
