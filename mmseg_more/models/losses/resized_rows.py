"""Losses of resized logits, of which only some rows are in memory at a time."""

import math
from typing import Callable, Sequence

import torch
from torch import Tensor

from ...localization.maps import linear_weights
from ..blocks import map_blocks, split_range

# Resized logits that are made at once. On a CPU the next operation finds them in the cache.
_BLOCK_BYTES = dict(cpu=2**21, cuda=2**29)
# As many are few.
_FEW_BYTES = dict(cpu=2**23, cuda=2**29)


def fit_at_once(logits: Tensor, size: Sequence[int]) -> bool:
    """Whether logits resized to ``size`` are so few that rows need not take turns.

    Args:
        logits: ``(B, C, h, w)``.
        size: ``(H, W)``.
    """
    resized = logits.element_size() * math.prod(logits.shape[:2]) * math.prod(size)
    return resized <= _FEW_BYTES.get(logits.device.type, 2**23)


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
            are; its result has rows in dimension 1, too, ``multiple`` times fewer.
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
    block_bytes = _BLOCK_BYTES.get(logits.device.type, 2**21)
    at_once = max(block_bytes // (bytes_of_row * multiple), 1)
    num_rows = height // multiple  # of the result
    if at_once >= num_rows or torch.compiler.is_compiling():
        return of_block(at_grid, slice(0, height))

    def of_rows(block: slice, at_grid: Tensor) -> Tensor:
        # what is less than a multiple goes to the last block
        end = height if block.stop == num_rows else block.stop * multiple
        return of_block(at_grid, slice(block.start * multiple, end))

    return map_blocks(of_rows, split_range(num_rows, at_once), (), (at_grid,))
