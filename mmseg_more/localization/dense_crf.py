"""Dense CRF on probabilities (METHOD: evaluation with CRF)."""
from typing import NamedTuple

import numpy as np

from .bilateral import PYDENSECRF_HINT


class DenseCRFOptions(NamedTuple):
    """Settings of the fully connected CRF; defaults are MoRe's."""

    num_iters: int = 10
    """Mean-field iterations."""
    gaussian_sxy: float = 1.
    """Width of the smoothness kernel, in pixels."""
    gaussian_weight: float = 3.
    """Weight of the smoothness kernel."""
    bilateral_sxy: float = 67.
    """Spatial width of the appearance kernel, in pixels."""
    bilateral_srgb: float = 3.
    """Colour width of the appearance kernel, in 8-bit levels."""
    bilateral_weight: float = 4.
    """Weight of the appearance kernel."""


def dense_crf(image: np.ndarray,
              probs: np.ndarray,
              options: DenseCRFOptions = DenseCRFOptions()) -> np.ndarray:
    """Refine the class probabilities of one image.

    Args:
        image: RGB, uint8 ``(H, W, 3)``.
        probs: Probabilities ``(C, H, W)`` in [0, 1] (clipped at 1e-5).
        options: Kernel widths, weights and iterations.

    Returns:
        Refined probabilities, float32 ``(C, H, W)``.

    Raises:
        ValueError: If the shapes or the image type do not fit.
        ImportError: If pydensecrf is missing; says how to install it.
    """
    if image.dtype != np.uint8 or image.shape != (*probs.shape[1:], 3):
        raise ValueError(
            'dense_crf expects a uint8 RGB image of shape '
            f'{(*probs.shape[1:], 3)} for probabilities of shape '
            f'{probs.shape}, got {image.dtype} {image.shape}')
    try:
        from pydensecrf import densecrf
        from pydensecrf.utils import unary_from_softmax
    except ImportError as error:
        raise ImportError(PYDENSECRF_HINT) from error
    channels, height, width = probs.shape
    crf = densecrf.DenseCRF2D(width, height, channels)
    crf.setUnaryEnergy(
        np.ascontiguousarray(unary_from_softmax(probs.astype(np.float32))))
    crf.addPairwiseGaussian(
        sxy=options.gaussian_sxy, compat=options.gaussian_weight)
    crf.addPairwiseBilateral(
        sxy=options.bilateral_sxy,
        srgb=options.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=options.bilateral_weight)
    refined = crf.inference(options.num_iters)
    return np.asarray(refined, np.float32).reshape(channels, height, width)
