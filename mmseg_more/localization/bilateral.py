"""Gaussian bilateral filtering and the energy built on it.

The filter is the permutohedral lattice of dense CRFs (Krähenbühl & Koltun, 2011;
Adams et al., 2010): in tensor operations, on the device of its inputs, or by
pydensecrf, one image after the other on the CPU.
"""

from importlib.util import find_spec
from types import ModuleType
from typing import Any, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from .permutohedral import Lattice, build_lattice, filter_on_lattice

BACKENDS = ('auto', 'lattice', 'pydensecrf')
# Up to here pydensecrf is faster on the CPU (measured on one core with photographs and
# drawn shapes, 7 and 21 channels: equal at some 8000 points, 2 against 1 at 2300, 2 against
# 3 at 18000): the lattice's calls outweigh its arithmetic.
_SMALL_BATCH = 8192


def import_densecrf() -> ModuleType:
    """The extension ``pydensecrf.densecrf``.

    Raises:
        ImportError: If it is missing; says how to install it.
    """
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise ImportError(
            'pydensecrf is not installed; install it with "pip install pydensecrf2" '
            "(Python 3.12 or older), or take the backend 'lattice', which needs nothing"
        ) from error
    return densecrf


def bilateral_filter(
    image: np.ndarray, values: np.ndarray, sigma_rgb: float, sigma_xy: float
) -> np.ndarray:
    """Filter ``values`` with the unnormalised bilateral kernel of ``image``.

    ``A_i = sum_j exp(-|x_i-x_j|^2 / 2 sxy^2 - |I_i-I_j|^2 / 2 srgb^2) S_j``, as the
    permutohedral lattice approximates it.

    Args:
        image: ``(H, W, 3)``, 0 to 255, any float or integer type.
        values: ``(C, H, W)``.
        sigma_rgb: Width in colour, in 8-bit levels.
        sigma_xy: Width in space, in pixels.

    Returns:
        float32 ``(C, H, W)``.

    Raises:
        ImportError: If pydensecrf is missing; says how to install it.
    """
    densecrf = import_densecrf()
    channels, height, width = values.shape
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    features = np.concatenate(
        [
            np.stack([xs, ys]) / sigma_xy,
            image.transpose(2, 0, 1).astype(np.float32) / sigma_rgb,
        ]
    ).reshape(5, -1)
    crf = densecrf.DenseCRF(height * width, channels)
    crf.setUnaryEnergy(np.zeros((channels, height * width), np.float32))
    crf.addPairwiseEnergy(
        np.ascontiguousarray(features, np.float32),
        compat=1,
        kernel=densecrf.DIAG_KERNEL,
        normalization=densecrf.NO_NORMALIZATION,
    )
    # One step of mean-field inference leaves -K S in the last buffer.
    current, update, message = (crf.startInference()[0] for _ in range(3))
    np.asarray(current)[:] = values.reshape(channels, -1)
    crf.stepInference(current, update, message)
    return -np.asarray(message).reshape(channels, height, width)


def spatial_lattice(
    batch_size: int, height: int, width: int, sigma_xy: float, device: torch.device
) -> Lattice:
    """Lattice of the Gaussian kernel of the pixels, image by image and row by row.

    Args:
        batch_size: Number of images.
        height: Of the images.
        width: Of the images.
        sigma_xy: Width of the kernel in pixels.
        device: Where the lattice is wanted.

    Raises:
        ValueError: If the width is too small for the lattice's keys.
    """
    bounds = ((0, width / sigma_xy), (0, height / sigma_xy))
    positions = _positions(height, width, sigma_xy, device)
    return build_lattice(positions.flatten(1).expand(batch_size, -1, -1), bounds)


def bilateral_lattice(images: Tensor, sigma_rgb: float, sigma_xy: float) -> Lattice:
    """Lattice of the bilateral kernel of the pixels, image by image and row by row.

    Args:
        images: As :func:`bilateral_filter_batch`; integers too.
        sigma_rgb: Width in colour, in 8-bit levels.
        sigma_xy: Width in space, in pixels.

    Raises:
        ValueError: If the widths are too small for the lattice's keys.
    """
    height, width = images.shape[-2:]
    positions = _positions(height, width, sigma_xy, images.device)
    # divided by a tensor, see _positions
    colours = images.float() / torch.full((1,), sigma_rgb, device=images.device)
    features = torch.cat([positions.expand(len(images), -1, -1, -1), colours], dim=1)
    bounds = ((0, width / sigma_xy), (0, height / sigma_xy))
    of_colours = (-1 / sigma_rgb, 256 / sigma_rgb)
    return build_lattice(features.flatten(2), (*bounds, *[of_colours] * 3))


def _positions(height: int, width: int, sigma_xy: float, device: torch.device) -> Tensor:
    """Column and row of each pixel over ``sigma_xy``, float32 ``(2, H, W)``."""
    # Divided by a tensor: by a number, a GPU would multiply with its inverse instead.
    sigma = torch.full((1,), sigma_xy, device=device)
    ys, xs = (
        torch.arange(n, device=device, dtype=torch.float32) / sigma for n in (height, width)
    )
    return torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)])


def bilateral_filter_batch(
    images: Tensor, values: Tensor, sigma_rgb: float, sigma_xy: float
) -> Tensor:
    """:func:`bilateral_filter` of a batch, in tensor operations on its device.

    Equal to pydensecrf's result up to the rounding of its sums. On a GPU the host waits
    once.

    Args:
        images: ``(B, 3, H, W)``, 0 to 255; colours beyond by more than one
            level are clamped.
        values: ``(B, C, H, W)``.
        sigma_rgb: Width in colour, in 8-bit levels.
        sigma_xy: Width in space, in pixels.

    Returns:
        float32 ``(B, C, H, W)``.

    Raises:
        ValueError: If the widths are too small for the lattice's keys.
    """
    batch_size, channels, *_ = values.shape
    lattice = bilateral_lattice(images, sigma_rgb, sigma_xy)
    points = values.float().flatten(2).transpose(1, 2).flatten(0, 1)
    return (
        filter_on_lattice(lattice, points)
        .view(batch_size, -1, channels)
        .transpose(1, 2)
        .reshape(values.shape)
    )


def _filter_by_pydensecrf(
    images: Tensor, values: Tensor, sigma_rgb: float, sigma_xy: float
) -> Tensor:
    """As :func:`bilateral_filter_batch`; the values travel over the host."""
    filtered = [
        bilateral_filter(image, value, sigma_rgb, sigma_xy)
        for image, value in zip(
            images.float().permute(0, 2, 3, 1).cpu().numpy(), values.float().cpu().numpy()
        )
    ]
    return torch.from_numpy(np.stack(filtered)).to(values.device)


def choose_backend(backend: str, values: Tensor) -> str:
    """Who filters ``values``, ``(B, C, H, W)``: 'lattice' or 'pydensecrf'.

    ``'auto'`` is the lattice, except for small batches (up to 8192 pixels in all)
    on the CPU where pydensecrf is installed.

    Raises:
        ValueError: For an unknown name.
    """
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
    if backend != 'auto':
        return backend
    small = values.numel() <= _SMALL_BATCH * values.shape[1]
    on_cpu = values.device.type == 'cpu'
    if small and on_cpu and find_spec('pydensecrf') is not None:
        return 'pydensecrf'
    return 'lattice'


class _BilateralEnergy(torch.autograd.Function):
    """``-scale * sum(S . (gate A)) / B`` with the gradient that the method defines.

    That is ``-2 scale gate A / B``: the gate is a constant.
    """

    @staticmethod
    def forward(
        ctx: Any,
        probs: Tensor,
        images: Tensor,
        gate: Tensor,
        sigmas: Tuple[float, float],
        scale: float,
        backend: str,
    ) -> Tensor:
        apply_filter = dict(
            lattice=bilateral_filter_batch, pydensecrf=_filter_by_pydensecrf
        )[choose_backend(backend, probs)]
        gated = apply_filter(images, probs, *sigmas) * gate
        ctx.save_for_backward(gated)
        ctx.factor = -2 * scale / len(probs)
        return -scale * (probs * gated).sum() / len(probs)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tuple[Optional[Tensor], ...]:
        (gated,) = ctx.saved_tensors
        return grad_output * ctx.factor * gated, None, None, None, None, None


def bilateral_energy(
    probs: Tensor,
    images: Tensor,
    gate: Tensor,
    sigma_rgb: float,
    sigma_xy: float,
    scale: float,
    backend: str = 'auto',
) -> Tensor:
    """Energy of soft labels under the bilateral kernel (rloss).

    Args:
        probs: Class probabilities S, ``(B, C, H, W)``; computed in float32.
        images: ``(B, 3, H, W)``, 0 to 255.
        gate: ``(B, 1, H, W)`` in [0, 1]; where the energy counts.
        sigma_rgb: Width in colour, in 8-bit levels.
        sigma_xy: Width in space, in pixels.
        scale: Factor before the sum (1e-7 in the paper's code).
        backend: ``'lattice'``: :func:`bilateral_filter_batch`, on any device;
            ``'pydensecrf'``: :func:`bilateral_filter`, on the CPU, image by image;
            ``'auto'``: the faster one, see :func:`choose_backend`.

    Returns:
        Scalar ``-scale * sum(S . (gate (K S))) / B``, float32, differentiable in
        ``probs``.

    Raises:
        ValueError: For an unknown backend.
        ImportError: If pydensecrf is asked for and missing.
    """
    return _BilateralEnergy.apply(
        probs.float(), images.detach(), gate.detach(), (sigma_rgb, sigma_xy), scale, backend
    )
