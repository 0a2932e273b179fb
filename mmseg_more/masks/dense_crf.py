"""Dense CRF on the probabilities of one image (METHOD: evaluation with CRF)."""

from typing import NamedTuple

import numpy as np

from ..localization.bilateral import import_densecrf

CLASS_EPSILON = 0.02
"""Classes whose probability stays below this all over an image are left out.

They cannot win there. What they take part in are ties of two other classes:
without them .005 % of the pixels of 50 images of noise (500x375, 21 classes, 9 of
them left) got another label, and none on the shapes; with .05 it was more than
.01 %. ``tools/analysis/benchmark_masks.py`` measures it."""


class DenseCRFOptions(NamedTuple):
    """Settings of the fully connected CRF; defaults are MoRe's."""

    num_iters: int = 10
    """Mean-field iterations."""
    gaussian_sxy: float = 1.0
    """Width of the smoothness kernel, in pixels."""
    gaussian_weight: float = 3.0
    """Weight of the smoothness kernel."""
    bilateral_sxy: float = 67.0
    """Spatial width of the appearance kernel, in pixels."""
    bilateral_srgb: float = 3.0
    """Colour width of the appearance kernel, in 8-bit levels."""
    bilateral_weight: float = 4.0
    """Weight of the appearance kernel."""


class CRFMask(NamedTuple):
    """The refined labels of one image."""

    mask: np.ndarray
    """Dense labels ``(H, W)`` uint8, 0 = background."""
    confidence: np.ndarray
    """Mean refined probability of the pixels that each channel won, float32
    ``(C,)`` in [0, 1]; NaN for a channel that won none."""


def dense_crf(
    image: np.ndarray,
    probs: np.ndarray,
    options: DenseCRFOptions = DenseCRFOptions(),
    epsilon: float = 0.0,
) -> np.ndarray:
    """Refine the class probabilities of one image.

    Args:
        image: RGB, uint8 ``(H, W, 3)``.
        probs: Probabilities ``(C, H, W)`` in [0, 1] (clipped at 1e-5), the
            background first.
        options: Kernel widths, weights and iterations.
        epsilon: Channels but the background whose largest probability in the
            image is below this are left out, which saves their share of the
            time; they come back as 0. Defaults to 0: all take part.

    Returns:
        Refined probabilities, float32 ``(C, H, W)``.

    Raises:
        ValueError: If the shapes, the image type or the probabilities (not
            finite) do not fit.
        ImportError: If pydensecrf is missing; says how to install it.
    """
    if image.dtype != np.uint8 or probs.ndim != 3 or image.shape != (*probs.shape[1:], 3):
        raise ValueError(
            'dense_crf expects a uint8 RGB image of shape '
            f'{(*probs.shape[1:], 3)} for probabilities of shape '
            f'{probs.shape}, got {image.dtype} {image.shape}'
        )
    if not np.isfinite(probs).all():
        raise ValueError('dense_crf expects finite probabilities, got NaN or infinity')
    keep = probs.reshape(len(probs), -1).max(1) >= epsilon
    keep[0] = True
    refined = np.zeros(probs.shape, np.float32)
    if keep.sum() == 1:
        refined[keep] = 1.0  # the only class takes everything
    else:
        refined[keep] = _infer(image, probs[keep].astype(np.float32), options)
    return refined


def dense_crf_mask(
    image: np.ndarray,
    probs: np.ndarray,
    labels: np.ndarray,
    options: DenseCRFOptions = DenseCRFOptions(),
    epsilon: float = CLASS_EPSILON,
) -> CRFMask:
    """Refine and give each pixel the dense label of its strongest channel.

    Args:
        image: RGB, uint8 ``(H, W, 3)``.
        probs: Probabilities ``(C, H, W)`` in [0, 1], the background first.
        labels: Dense label of each channel, integer ``(C,)`` in 0..254.
        options: As in :func:`dense_crf`.
        epsilon: As in :func:`dense_crf`. Defaults to ``CLASS_EPSILON``.

    Raises:
        ValueError: As :func:`dense_crf`, or if the labels do not fit.
    """
    if (
        labels.shape != (len(probs),)
        or not np.issubdtype(labels.dtype, np.integer)
        or labels.min() < 0
        or labels.max() > 254
    ):
        raise ValueError(
            'expected an integer label in 0..254 for each of the '
            f'{len(probs)} channels, got {labels.dtype} {labels.tolist()}'
        )
    refined = dense_crf(image, probs, options, epsilon)
    winner = refined.argmax(0)
    count = np.bincount(winner.ravel(), minlength=len(probs))
    total = np.bincount(winner.ravel(), refined.max(0).ravel(), minlength=len(probs))
    confidence = np.divide(total, count, out=np.full(len(probs), np.nan), where=count > 0)
    return CRFMask(labels.astype(np.uint8)[winner], confidence.astype(np.float32))


def _infer(image: np.ndarray, probs: np.ndarray, options: DenseCRFOptions) -> np.ndarray:
    densecrf = import_densecrf()
    from pydensecrf.utils import unary_from_softmax

    channels, height, width = probs.shape
    crf = densecrf.DenseCRF2D(width, height, channels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(probs)))
    crf.addPairwiseGaussian(sxy=options.gaussian_sxy, compat=options.gaussian_weight)
    crf.addPairwiseBilateral(
        sxy=options.bilateral_sxy,
        srgb=options.bilateral_srgb,
        rgbim=np.require(image, requirements=('C', 'W')),
        compat=options.bilateral_weight,
    )
    refined = crf.inference(options.num_iters)
    return np.asarray(refined, np.float32).reshape(channels, height, width)
