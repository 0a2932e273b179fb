"""Localization maps from patch tokens: CAM, LAM, merging and normalisation.

Pure tensor functions (MoRe, section 3.1 and 3.2). ``B`` batch, ``K`` foreground
classes, ``D`` channels, ``h, w`` patch grid, ``H, W`` pixels.
"""

import math
from functools import lru_cache
from typing import Any, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor


def scaled_size(size: Sequence[int], scale: float) -> Tuple[int, int]:
    """Image size ``(int(s*H), int(s*W))`` of a multi-scale pass.

    Args:
        size: ``(H, W)`` in pixels.
        scale: Positive factor.

    Returns:
        The size in pixels.

    Raises:
        ValueError: If the scaled image would have no pixel.
    """
    scaled = int(scale * size[0]), int(scale * size[1])
    if min(scaled) < 1:
        raise ValueError(
            f'scale {scale} leaves no pixel of an image of '
            f'{size[0]}x{size[1]}; use a larger scale'
        )
    return scaled


def resize_map(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``(B, C, h, w)`` bilinearly (align_corners False) to ``size``.

    On a GPU the gradient is that of matrix products: PyTorch's kernel adds all pixels of a
    patch to one number, each waiting for the others and in any order.
    """
    if maps.shape[-2:] == torch.Size(size):
        return maps
    if maps.is_cuda and maps.requires_grad:
        return _BilinearResize.apply(maps, tuple(size))
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)


class _BilinearResize(torch.autograd.Function):
    """``F.interpolate`` forwards, ``rows^T @ gradient @ columns`` backwards."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, size: Tuple[int, int]) -> Tensor:
        ctx.sizes = tuple(zip(maps.shape[-2:], size))
        return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Tensor, None]:
        rows, columns = (
            linear_weights(source, target, gradient.device).to(gradient.dtype)
            for source, target in ctx.sizes
        )
        return rows.t() @ gradient @ columns, None


@lru_cache(maxsize=64)
def linear_weights(source: int, target: int, device: torch.device) -> Tensor:
    """What the pixels of a line count for those of a resized one.

    Args:
        source: Pixels of the line.
        target: Pixels of the resized line.
        device: Where the matrix is kept.

    Returns:
        float64 ``(target, source)``.
    """
    # a channel for each pixel
    line = torch.eye(source, dtype=torch.float64, device=device)[None]
    return F.interpolate(line, size=target, mode='linear', align_corners=False)[0].t()


def class_patch_similarity(tokens: Tensor, patches: Tensor) -> Tensor:
    """Localization attention map before normalisation, ``LAM = Q P^T``.

    Args:
        tokens: Class tokens after GCR, ``(B, K, D)``.
        patches: Patch tokens ``(B, D, h, w)``.

    Returns:
        Similarities ``(B, K, h, w)``, any range.
    """
    # b batch, k class, d channel, i row, j column
    return torch.einsum('bkd,bdij->bkij', tokens, patches)


def merge_flip(maps: Tensor, flipped: Tensor, size: Sequence[int]) -> Tensor:
    """Elementwise maximum of a map and the un-flipped map of the flip.

    Args:
        maps: Maps of the images, ``(B, K, h, w)``.
        flipped: Maps of the horizontally flipped images, ``(B, K, h, w)``.
        size: ``(H, W)`` both are resized to before they are compared.

    Returns:
        Merged maps ``(B, K, H, W)``.
    """
    return torch.maximum(resize_map(maps, size), resize_map(flipped, size).flip(-1))


def normalize_maps(maps: Tensor, eps: float = 1e-5) -> Tensor:
    """Scale each map of each image to ``[0, 1]``.

    Subtracts the minimum over the pixels, then divides by
    (maximum after that + ``eps``). 1 is reached where rounding swallows ``eps``.

    Args:
        maps: ``(B, K, H, W)``, any range.
        eps: Keeps constant maps at 0. Defaults to 1e-5.

    Returns:
        Normalised maps of the same shape.
    """
    shifted = maps - maps.amin(dim=(-2, -1), keepdim=True)
    return shifted / (shifted.amax(dim=(-2, -1), keepdim=True) + eps)


def fuse_maps(lam: Tensor, cam: Tensor) -> Tensor:
    """Product of two normalised maps ``(B, K, H, W)``, normalised again."""
    return normalize_maps(lam * cam)


def move_threshold(
    maps: Tensor, threshold: Union[float, Tensor], target: float = 0.5
) -> Tensor:
    """Bend maps so that the value ``threshold`` becomes ``target``; 0 and 1 stay.

    ``v -> v ** g`` with ``g = log(target) / log(threshold)``: strictly monotone, so the
    order of the pixels of a map stays, and what was above the threshold is above the
    target.

    For maps that go on, into the CRF or a histogram: the power multiplies the energy
    ``-log v`` that the CRF starts from by one number, without a kink at the threshold.
    Confidence is not read from such maps. With a threshold of .01 a value of .1 becomes
    .71, nearly sure; :func:`~mmseg_more.masks.confidence.even_odds` makes it .55.

    Args:
        maps: Maps in [0, 1], ``(..., H, W)``.
        threshold: In [0, 1), one for all or one for each map, shape ``(...)``; below
            1e-6 it counts as that.
        target: In (0, 1).

    Returns:
        Maps of the same shape in [0, 1].
    """
    threshold = torch.as_tensor(threshold, dtype=torch.float64).clamp_min(1e-6)
    power = math.log(target) / threshold.log()
    return maps.pow(power.to(maps)[..., None, None])


def check_scales(scales: Sequence[float], name: str) -> Tuple[float, ...]:
    """Return ``scales`` as a tuple of floats.

    Raises:
        ValueError: If there is none, or one is not positive.
    """
    values = tuple(float(s) for s in scales)
    if not values or min(values) <= 0:
        raise ValueError(
            f'{name} must name at least one positive scale, got {tuple(scales)}'
        )
    return values
