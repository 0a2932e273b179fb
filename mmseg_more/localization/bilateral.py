"""Gaussian bilateral filtering and the energy built on it.

The filter is the permutohedral lattice of dense CRFs (Krähenbühl & Koltun, 2011;
Adams et al., 2010), run by pydensecrf without any extension of our own.
"""
from typing import Tuple

import numpy as np
import torch
from torch import Tensor

PYDENSECRF_HINT = ('pydensecrf is not installed; install it with '
                   '"pip install pydensecrf2"')


def bilateral_filter(image: np.ndarray, values: np.ndarray, sigma_rgb: float,
                     sigma_xy: float) -> np.ndarray:
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
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise ImportError(PYDENSECRF_HINT) from error
    channels, height, width = values.shape
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    features = np.concatenate([
        np.stack([xs, ys]) / sigma_xy,
        image.transpose(2, 0, 1).astype(np.float32) / sigma_rgb
    ]).reshape(5, -1)
    crf = densecrf.DenseCRF(height * width, channels)
    crf.setUnaryEnergy(np.zeros((channels, height * width), np.float32))
    crf.addPairwiseEnergy(
        np.ascontiguousarray(features, np.float32),
        compat=1,
        kernel=densecrf.DIAG_KERNEL,
        normalization=densecrf.NO_NORMALIZATION)
    # One step of mean-field inference leaves -K S in the last buffer.
    current, update, message = (crf.startInference()[0] for _ in range(3))
    np.asarray(current)[:] = values.reshape(channels, -1)
    crf.stepInference(current, update, message)
    return -np.asarray(message).reshape(channels, height, width)


class _BilateralEnergy(torch.autograd.Function):
    """``-scale * sum(S . (gate A)) / B`` with the gradient that the method
    defines, ``-2 scale gate A / B`` (the gate is a constant)."""

    @staticmethod
    def forward(ctx, probs: Tensor, images: Tensor, gate: Tensor,
                sigmas: Tuple[float, float], scale: float) -> Tensor:
        pixels = images.detach().float().permute(0, 2, 3, 1).cpu().numpy()
        values = probs.detach().float().cpu().numpy()
        filtered = np.stack([
            bilateral_filter(image, value, *sigmas)
            for image, value in zip(pixels, values)
        ])
        gated = torch.from_numpy(filtered).to(probs) * gate
        ctx.save_for_backward(gated)
        ctx.factor = -2 * scale / len(probs)
        return -scale * (probs * gated).sum() / len(probs)

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        gated, = ctx.saved_tensors
        return grad_output * ctx.factor * gated, None, None, None, None


def bilateral_energy(probs: Tensor, images: Tensor, gate: Tensor,
                     sigma_rgb: float, sigma_xy: float,
                     scale: float) -> Tensor:
    """Energy of soft labels under the bilateral kernel (rloss).

    Args:
        probs: Class probabilities S, ``(B, C, H, W)``.
        images: ``(B, 3, H, W)``, 0 to 255.
        gate: ``(B, 1, H, W)`` in [0, 1]; where the energy counts.
        sigma_rgb: Width in colour, in 8-bit levels.
        sigma_xy: Width in space, in pixels.
        scale: Factor before the sum (1e-7 in the paper's code).

    Returns:
        Scalar ``-scale * sum(S . (gate (K S))) / B``, differentiable in ``probs``.
    """
    return _BilateralEnergy.apply(probs, images, gate, (sigma_rgb, sigma_xy),
                                  scale)
