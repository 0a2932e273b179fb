"""Attention on a CPU at the rate of its matrix products in bfloat16."""

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 2**21  # attention weights at a time: 4 MB, which stay in a cache


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention, PyTorch's but for one case.

    In bfloat16 on a CPU, PyTorch's multiplies at the rate of float32. Where no gradient is
    asked for, blocks of the attention matrix are made by matrix products instead; their
    logits are rounded to bfloat16 before the softmax.

    Args:
        query: ``(B, heads, N, D)``.
        key: ``(B, heads, N, D)``.
        value: ``(B, heads, N, D)``.

    Returns:
        ``(B, heads, N, D)``.
    """
    wants_gradient = torch.is_grad_enabled() and any(
        part.requires_grad for part in (query, key, value)
    )
    blocked = (
        query.device.type == 'cpu'
        and query.dtype == torch.bfloat16
        and not wants_gradient
        and not (torch.jit.is_tracing() or torch.compiler.is_compiling())
    )
    return (_attend_in_blocks if blocked else F.scaled_dot_product_attention)(
        query, key, value
    )


def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    shape = query.shape
    queries, keys, values = (part.flatten(0, 1) for part in (query, key, value))
    num_tokens, scale = shape[2], shape[3] ** -0.5
    matrices = max(2, _BLOCK // num_tokens**2)  # two, as threads share products by matrix
    rows = max(1, min(num_tokens, _BLOCK // (matrices * num_tokens)))
    result = torch.empty_like(queries)
    for matrix in range(0, len(queries), matrices):
        chosen = slice(matrix, matrix + matrices)
        transposed = keys[chosen].transpose(1, 2)
        for row in range(0, num_tokens, rows):
            some = queries[chosen, row : row + rows]
            weights = some.new_empty(*some.shape[:2], num_tokens)
            torch.baddbmm(weights, some, transposed, beta=0, alpha=scale, out=weights)
            torch.softmax(weights, dim=-1, out=weights)
            result[chosen, row : row + rows] = torch.bmm(weights, values[chosen])
    return result.view(shape)
