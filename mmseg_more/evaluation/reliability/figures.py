"""Whether confidence can be believed: calibration of pixels, rejection of images.

Shapes: ``S`` bins of confidence, equally wide in [0, 1]; ``M`` images.
"""

from typing import Any, Dict, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor


class Reliability(NamedTuple):
    """What a histogram of confidence and correctness says; float64 ``(S,)`` or a number.

    NaN where there is nothing to count.
    """

    share: np.ndarray
    """Share of the pixels in each bin; they sum to 1."""
    confidence: np.ndarray
    """Mean confidence of each bin."""
    accuracy: np.ndarray
    """How often the pixels of each bin are right (of images: their mean quality)."""
    ece: float
    """Expected calibration error: the sum over the bins of ``share * |accuracy -
    confidence|`` (Guo et al., 2017, equation 3), in [0, 1]."""
    bias: float
    """Mean confidence minus mean accuracy: above 0 where confidence promises too much."""

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it, None for NaN."""
        return {
            name: [None if np.isnan(v) else round(float(v), 6) for v in value]
            if isinstance(value, np.ndarray)
            else (None if np.isnan(value) else float(value))
            for name, value in self._asdict().items()
        }


def confidence_histogram(
    confidence: Tensor, quality: Tensor, num_bins: int, valid: Optional[Tensor] = None
) -> Tensor:
    """Count pixels by their confidence; the sums of images can be added.

    Args:
        confidence: In [0, 1], any shape. The last bin includes 1.
        quality: Of the same shape: whether the pixel is right, or a figure in [0, 1].
        num_bins: ``S``.
        valid: Of the same shape, bool: which of them count. None: all.

    Returns:
        ``(3, S)`` float64: number, sum of confidence, sum of quality.

    Raises:
        ValueError: If confidence lies outside of [0, 1] or is not finite.
    """
    if valid is None:
        valid = torch.ones_like(confidence, dtype=torch.bool)
    confidence, quality = confidence[valid].double(), quality[valid].double()
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError('confidence must lie in [0, 1] and be finite')
    index = (confidence * num_bins).long().clamp(max=num_bins - 1)
    rows = (torch.ones_like(confidence), confidence, quality)
    return torch.stack([torch.bincount(index, row, num_bins) for row in rows])


def reliability(histogram: Tensor, num_bins: int) -> Reliability:
    """The reliability diagram and its figures.

    Args:
        histogram: ``(3, S')`` of :func:`confidence_histogram`, summed over images.
        num_bins: ``S``, of which ``S'`` is a multiple: finer bins are merged.

    Raises:
        ValueError: If it is none.
    """
    fine = histogram.shape[1]
    if num_bins < 1 or fine % num_bins:
        raise ValueError(f'{fine} bins cannot be merged into {num_bins}')
    merged = histogram.double().reshape(3, num_bins, fine // num_bins).sum(2).cpu().numpy()
    count, total_confidence, total_quality = merged
    number = count.sum()
    with np.errstate(invalid='ignore', divide='ignore'):
        share = count / number
        confidence, accuracy = total_confidence / count, total_quality / count
        gaps = np.abs(total_confidence - total_quality).sum() / number
        bias = (total_confidence.sum() - total_quality.sum()) / number
    return Reliability(share, confidence, accuracy, float(gaps), float(bias))


class Rejection(NamedTuple):
    """Error of the images that are left after the least certain ones were taken away."""

    risk: np.ndarray
    """Mean error of the ``j + 1`` most certain images, float64 ``(M,)``. Where images are
    equally certain, its expectation over their order."""
    ideal_risk: np.ndarray
    """The same where images are rejected by their true error."""
    aurc: float
    """Area under the risk-coverage curve (Geifman et al., 2019): the mean of ``risk``."""
    ideal: float
    """The mean of ``ideal_risk``: the least there can be."""
    random: float
    """What images that are rejected at random give: the mean error."""

    @property
    def excess(self) -> float:
        """``(aurc - ideal) / (random - ideal)``: 0 is the ideal order, 1 that of chance.

        NaN where all images are equally wrong, so that there is nothing to find.
        """
        room = self.random - self.ideal
        return (self.aurc - self.ideal) / room if room > 1e-12 else float('nan')


def rejection(confidence: np.ndarray, error: np.ndarray) -> Rejection:
    """The risk-coverage curve of images.

    Args:
        confidence: ``(M,)``; only its order counts.
        error: ``(M,)`` in [0, 1].

    Raises:
        ValueError: If there is no image, or the shapes differ.
    """
    confidence, error = np.asarray(confidence, float), np.asarray(error, float)
    if confidence.ndim != 1 or confidence.shape != error.shape or not len(error):
        raise ValueError(
            'expected a confidence and an error of each image, got the shapes '
            f'{confidence.shape} and {error.shape}'
        )
    risk, ideal = _risk(confidence, error), _risk(-error, error)
    return Rejection(
        risk, ideal, float(risk.mean()), float(ideal.mean()), float(error.mean())
    )


def _risk(confidence: np.ndarray, error: np.ndarray) -> np.ndarray:
    order = np.argsort(-confidence, kind='stable')
    # every image stands for the mean of those that are as certain as it is
    _, group = np.unique(-confidence[order], return_inverse=True)
    means = np.bincount(group, error[order]) / np.bincount(group)
    return np.cumsum(means[group]) / np.arange(1, len(error) + 1)


def image_error(confusion: Tensor) -> float:
    """``1 - mIoU`` of one image, over the labels that its mask or its truth shows.

    Args:
        confusion: ``(C, C)``, rows = truth.

    Returns:
        In [0, 1]; NaN where no pixel counts.
    """
    confusion = confusion.double()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return 1 - (confusion.diagonal() / union)[union > 0].mean().item()
