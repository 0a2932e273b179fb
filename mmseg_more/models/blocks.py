"""Results that are computed block by block, in both directions."""

from typing import Any, Callable, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def map_blocks(
    function: Callable[..., Tensor],
    blocks: Sequence[slice],
    split: Sequence[Tensor],
    whole: Sequence[Tensor],
) -> Tensor:
    """Compute the blocks of a result in turns, each anew for the gradient.

    As activation checkpointing of every block, but results and gradients are written to
    one tensor each: where every block leaves some of its own behind, the memory between
    them is lost to the system's allocator.

    Args:
        function: Of a block, of its part of each tensor in ``split``, and of the tensors in
            ``whole``. Its result has the block in dimension 1. What else it reads gets no
            gradient, and it must draw no random numbers.
        blocks: One after the other, from 0 on.
        split: Tensors whose dimension 1 is that of the blocks.
        whole: Tensors that every block sees.

    Returns:
        The results of all blocks, side by side in dimension 1.
    """
    result: Tensor = _Blocks.apply(function, blocks, len(split), *split, *whole)
    return result


def split_range(size: int, at_once: int) -> Sequence[slice]:
    """Blocks of ``at_once``, of which the last may be smaller."""
    return [slice(i, min(i + at_once, size)) for i in range(0, size, at_once)]


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[..., Tensor],
        blocks: Sequence[slice],
        num_split: int,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.function, ctx.blocks, ctx.num_split = function, blocks, num_split
        device_type = tensors[0].device.type
        ctx.autocast = dict(
            device_type=device_type,
            dtype=torch.get_autocast_dtype(device_type),
            enabled=torch.is_autocast_enabled(device_type),
        )
        result: Optional[Tensor] = None
        for block in blocks:
            part = function(block, *_parts(tensors, num_split, block))
            if result is None:
                result = part.new_empty(len(part), blocks[-1].stop, *part.shape[2:])
            result[:, block] = part
        assert result is not None, 'there are no blocks'
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Optional[Tensor], ...]:
        tensors = ctx.saved_tensors
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        totals = {i: torch.zeros_like(tensors[i]) for i in wanted}
        for block in ctx.blocks:
            parts = [part.detach() for part in _parts(tensors, ctx.num_split, block)]
            leaves = [parts[i].requires_grad_() for i in wanted]
            with torch.enable_grad(), torch.autocast(**ctx.autocast):
                value = ctx.function(block, *parts)
            found = torch.autograd.grad(value, leaves, gradient[:, block])
            for i, part in zip(wanted, found):
                total = totals[i][:, block] if i < ctx.num_split else totals[i]
                total += part
        return (None, None, None, *map(totals.get, range(len(tensors))))


def _parts(tensors: Sequence[Tensor], num_split: int, block: slice) -> Sequence[Tensor]:
    """What a block sees of tensors, of which the first are split."""
    return [
        tensor[:, block] if i < num_split else tensor for i, tensor in enumerate(tensors)
    ]
