"""Axial rotary positions: queries and keys turned by angles of their row and column."""

import math
from typing import NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Rotation(NamedTuple):
    """By what the channels of each token are rotated."""

    cos: Tensor
    """``(T, D / heads)``."""
    sin: Tensor
    """``(T, D / heads)``."""


def axial_rotation(
    grid: Tuple[int, int],
    num_extra_tokens: int,
    head_dims: int,
    base: float,
    device: torch.device,
) -> Rotation:
    """Angles of DINOv3: rows and columns from -1 to 1 whatever the size of the image.

    Patch ``(y, x)`` of ``(h, w)`` lies at ``v = 2 (y + 1/2) / h - 1``, ``u = 2 (x + 1/2) /
    w - 1``. With ``F = head_dims / 4`` and ``f_i = 2 pi base^(-i / F)``, its angles are ``v
    f_0 .. v f_(F-1), u f_0 .. u f_(F-1)``, and the same again for the other half of the
    channels.

    Args:
        grid: ``(h, w)``; plain, symbolic or traced numbers.
        num_extra_tokens: Tokens before the patches, which are not rotated.
        head_dims: Channels of a head, a multiple of 4.
        base: Ratio of the periods.
        device: Of the result.

    Returns:
        In float32, for ``num_extra_tokens + h w`` tokens.
    """
    count = head_dims // 4
    exponents = torch.arange(count, dtype=torch.float32, device=device) / count
    frequencies = 2 * math.pi / base**exponents
    rows, columns = (_centers(n, device)[:, None] * frequencies for n in grid)
    angles = torch.cat(torch.broadcast_tensors(rows[:, None], columns[None]), dim=-1)
    angles = angles.flatten(0, 1).repeat(1, 2)  # (h w, head_dims)
    angles = F.pad(angles, (0, 0, num_extra_tokens, 0))
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the first half of the channels with the second.

    Args:
        x: ``(..., T, D / heads)``.
        rotation: For these tokens.

    Returns:
        Shape and type of ``x``; computed in float32.
    """
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x * rotation.cos + turned * rotation.sin).to(x.dtype)


def _centers(count: int, device: torch.device) -> Tensor:
    """Centres of patches between -1 and 1, ``(count,)``."""
    # a tensor, as a traced number is one
    total = torch.full((1,), count, dtype=torch.float32, device=device)
    index = torch.arange(count, dtype=torch.float32, device=device)
    return 2 * (index + 0.5) / total - 1
