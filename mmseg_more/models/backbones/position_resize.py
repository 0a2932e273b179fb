"""Bicubic resizing of positions as matrix products, in exported networks and on a GPU."""

from functools import lru_cache
from typing import Sequence, Tuple

import torch
from torch import Tensor

_A = -0.75  # of PyTorch's cubic kernel
_A_ANTIALIAS = -0.5  # and of its antialiased one


def resize_by_products(
    table: Tensor,
    size: Tuple[int, int],
    offset: float,
    antialias: bool = False,
    *,
    image_size: Sequence[int],
) -> Tensor:
    """Resize positions to another grid, in operations that hold for every ``size``.

    ``rows @ table @ columns^T`` with matrices of bicubic weights. What
    ``F.interpolate(mode='bicubic', align_corners=False)`` gives but for rounding, with the
    scale factors ``(n + offset) / n0``. A table that has that size already stays as it is
    where the image is square. An exporter sees neither a branch nor a resize operation, of
    which each runtime has its own idea.

    Args:
        table: Positions, ``(1, h0, w0, D)``.
        size: ``(h, w)``; plain, symbolic or traced numbers.
        offset: Patches added to ``size`` in the scale factors.
        antialias: As ``F.interpolate`` takes it. Defaults to False.
        image_size: ``(H, W)`` of the images, as ``size``.

    Returns:
        ``(1, h, w, D)``.
    """

    def as_tensor(number: int) -> Tensor:
        return torch.full((1,), number, dtype=table.dtype, device=table.device)

    counts = [as_tensor(n) for n in size]
    sources = table.shape[1:3]
    height, width = map(as_tensor, image_size)
    differs = [height != width, *(n != n0 for n, n0 in zip(counts, sources))]
    other = torch.stack(differs).any(dim=0)
    weights = antialiased_weights if antialias else cubic_weights
    rows, columns = (
        weights(n, n0, n0 / (count + offset * other))
        for n, n0, count in zip(size, sources, counts)
    )
    return _products(rows, table, columns)


def resize_on_gpu(
    table: Tensor, size: Tuple[int, int], offset: float, antialias: bool = False
) -> Tensor:
    """As :func:`resize_by_products`, always with the offset.

    The matrices are kept for the next time. PyTorch's kernel gives a thread to each patch
    of the target, which walks through the channels: for a few hundred patches it takes as
    long as half of a ViT-B.
    """
    rows, columns = (
        _kept_weights(n, n0, offset, antialias, table.device)
        for n, n0 in zip(size, table.shape[1:3])
    )
    return _products(rows, table, columns)


@lru_cache(maxsize=64)
def _kept_weights(
    count: int, source: int, offset: float, antialias: bool, device: torch.device
) -> Tensor:
    weights = antialiased_weights if antialias else cubic_weights
    with torch.inference_mode(False):  # a later training may get them too
        step = torch.full((1,), source / (count + offset), device=device)
        return weights(count, source, step)


def _products(rows: Tensor, table: Tensor, columns: Tensor) -> Tensor:
    # i, j patch of the target, y, x of the table, d channel
    return torch.einsum('iy,byxd,jx->bijd', rows, table, columns)


def cubic_weights(count: int, source: int, step: Tensor) -> Tensor:
    """What each of ``source`` values counts for each of ``count`` samples between them.

    Sample ``i`` lies at ``(i + 1/2) step - 1/2``; beyond the border the last value repeats.

    Args:
        count: Number of samples.
        source: Number of values.
        step: Values per sample, ``(1,)``.

    Returns:
        ``(count, source)``, each row of sum 1.
    """
    samples = torch.arange(count, dtype=step.dtype, device=step.device)
    position = (samples + 0.5) * step - 0.5
    first = position.floor()
    part = position - first  # in [0, 1)
    kernel = torch.stack(
        [_far(part + 1), _near(part), _near(1 - part), _far(2 - part)], dim=1
    )  # (count, 4)
    neighbors = first[:, None] + torch.arange(-1, 3, dtype=step.dtype, device=step.device)
    values = torch.arange(source, dtype=step.dtype, device=step.device)
    chosen = neighbors.clamp(0, source - 1)[..., None] == values  # (count, 4, source)
    return (kernel[..., None] * chosen).sum(dim=1)


def antialiased_weights(count: int, source: int, step: Tensor) -> Tensor:
    """As :func:`cubic_weights`, with a kernel that is as wide as a sample.

    PyTorch's antialiasing: the kernel is stretched by ``step`` where that is above 1, is
    another one than without antialiasing also where it is not, and beyond the border there
    is nothing.

    Args:
        count: Number of samples.
        source: Number of values.
        step: Values per sample, ``(1,)``.

    Returns:
        ``(count, source)``, each row of sum 1.
    """
    samples = torch.arange(count, dtype=step.dtype, device=step.device)
    values = torch.arange(source, dtype=step.dtype, device=step.device)
    distances = (values + 0.5) - ((samples + 0.5) * step)[:, None]
    distances = (distances / step.clamp(min=1)).abs()
    near = _near(distances, _A_ANTIALIAS) * (distances <= 1)
    far = _far(distances, _A_ANTIALIAS) * ((distances > 1) & (distances < 2))
    weights = near + far
    return weights / weights.sum(dim=1, keepdim=True)


def _near(x: Tensor, a: float = _A) -> Tensor:
    """The cubic kernel at distances in [0, 1]."""
    return ((a + 2) * x - (a + 3)) * x * x + 1


def _far(x: Tensor, a: float = _A) -> Tensor:
    """The cubic kernel at distances in [1, 2]."""
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
