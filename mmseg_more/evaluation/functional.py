"""Figures of segmentation maps and image labels, as pure functions.

Shapes: ``K`` foreground classes, ``C = K + 1`` dense labels (0 = background,
``k + 1`` = class ``k``), ``M`` images, ``S`` thresholds. A confusion matrix is
``(C, C)`` int64 with the truth in the rows and the prediction in the columns.
"""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

ABSENT_CLASSES = ('skip', 'zero')
"""Labels that are predicted somewhere and occur in no truth: left out of the means, or
counted there, with an IoU of 0, as MMSegmentation's ``IoUMetric`` counts them."""


class SegmentationFigures(NamedTuple):
    """Figures per dense label, each ``(C,)`` float64 in [0, 1].

    With the true positives TP, false positives FP and false negatives FN in
    pixels. NaN where a figure is not defined (its denominator is 0).
    """

    iou: Tensor
    """``TP / (TP + FP + FN)``"""
    precision: Tensor
    """``TP / (TP + FP)``"""
    recall: Tensor
    """``TP / (TP + FN)``"""
    confusion_ratio: Tensor
    """``FP / TP``, not bounded by 1; NaN, not infinite, where TP is 0."""
    occurs: Tensor
    """Whether the label occurs in the truth, bool."""
    counted: Tensor
    """Whether the label counts in the means, bool, see :data:`ABSENT_CLASSES`."""

    def mean(self, name: str) -> float:
        """Mean of one figure over the labels that count.

        Of these, the labels for which the figure is not defined are left out:
        precision where the label was never predicted, confusion ratio where
        it was never right (mIoU and recall count such a label as 0). NaN when
        nothing is left.
        """
        return getattr(self, name)[self.counted].nanmean().item()


def confusion_matrix(
    pred: Tensor, target: Tensor, num_labels: int, ignore_index: int = 255
) -> Tensor:
    """Count the pairs of true and predicted label.

    Args:
        pred: Dense labels in ``[0, C)``, any shape, integer.
        target: True labels of the same shape; where they are
            ``ignore_index`` nothing is counted.
        num_labels: ``C``.
        ignore_index: Defaults to 255.

    Returns:
        ``(C, C)`` int64, rows = truth, columns = prediction.
    """
    valid = target != ignore_index
    index = target[valid].long() * num_labels + pred[valid].long()
    count = torch.bincount(index, minlength=num_labels**2)
    return count.reshape(num_labels, num_labels)


def segmentation_figures(
    confusion: Tensor, absent_classes: str = 'skip'
) -> SegmentationFigures:
    """IoU, precision, recall and confusion ratio of each label.

    Args:
        confusion: ``(C, C)`` counts, rows = truth.
        absent_classes: One of :data:`ABSENT_CLASSES`. Defaults to 'skip'.

    Raises:
        ValueError: If ``absent_classes`` is none of them.
    """
    if absent_classes not in ABSENT_CLASSES:
        raise ValueError(
            f'absent_classes must be one of {ABSENT_CLASSES}, got {absent_classes!r}'
        )
    confusion = confusion.double()
    tp = confusion.diagonal()
    predicted, true = confusion.sum(0), confusion.sum(1)
    ratio = (predicted - tp) / tp
    return SegmentationFigures(
        iou=tp / (predicted + true - tp),
        precision=tp / predicted,
        recall=tp / true,
        confusion_ratio=torch.where(tp > 0, ratio, torch.nan),
        occurs=true > 0,
        counted=(true > 0) if absent_classes == 'skip' else (true + predicted > 0),
    )


def mean_iou(confusion: Tensor, absent_classes: str = 'skip') -> float:
    """Mean IoU over the labels that count, in [0, 1]; see :func:`segmentation_figures`."""
    return segmentation_figures(confusion, absent_classes).mean('iou')


def threshold_histogram(
    label: Tensor,
    value: Tensor,
    target: Tensor,
    thresholds: Tensor,
    num_classes: int,
    ignore_index: int = 255,
) -> Tensor:
    """Count pixels by truth, strongest class and the thresholds it exceeds.

    One pass gives what :func:`confusion_at_thresholds` needs for every
    threshold.

    Args:
        label: Strongest class of each pixel, 0-based, ``(H, W)``.
        value: Its value, ``(H, W)`` float.
        target: True dense labels, ``(H, W)``.
        thresholds: ``(S,)``, ascending.
        num_classes: ``K``.
        ignore_index: Defaults to 255.

    Returns:
        ``(C, K, S + 1)`` int64; ``[c, k, s]`` counts the pixels of
        truth ``c`` and class ``k`` whose value exceeds exactly ``s``
        thresholds.
    """
    valid = target != ignore_index
    value = value[valid]
    # thresholds are compared in the precision of the map, as `map > t` does
    value = value.to(torch.promote_types(value.dtype, torch.float32))
    exceeded = torch.bucketize(value, thresholds.to(value))
    bins = len(thresholds) + 1
    index = (target[valid].long() * num_classes + label[valid]) * bins
    shape = (num_classes + 1, num_classes, bins)
    count = torch.bincount(index + exceeded, minlength=shape[0] * shape[1] * shape[2])
    return count.reshape(shape)


def confusion_at_thresholds(histogram: Tensor) -> Tensor:
    """Confusion matrices of the labels that each threshold gives.

    A pixel gets its strongest class, or 0 where the value of that is ``<=``
    the threshold.

    Args:
        histogram: ``(C, K, S + 1)`` of :func:`threshold_histogram`.

    Returns:
        ``(S, C, C)`` int64.
    """
    # pixels above threshold s exceed at least s + 1 thresholds
    above = histogram.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    background = histogram.sum((1, 2)).unsqueeze(-1) - above.sum(1)
    return torch.cat([background.unsqueeze(1), above], 1).permute(2, 0, 1)


def image_f1(score: Tensor, truth: Tensor) -> Tensor:
    """F1 of the image labels of each image (docs/method.md, section 8: over the classes).

    ``F1 = 2 TP / (2 TP + FP + FN)`` over the K classes, where a class is
    predicted at ``score > 0.5``, that is at a logit above 0.

    An image without any class gives 1 when nothing is predicted (the answer is
    right) and 0 otherwise. scikit-learn's default would be 0 in both cases;
    VOC and COCO 14 as released hold no such image.

    Args:
        score: Probabilities, ``(M, K)``.
        truth: Multi-hot labels, ``(M, K)``.

    Returns:
        ``(M,)`` float64 in [0, 1].
    """
    pred, truth = score > 0.5, truth > 0.5
    wrong = (pred ^ truth).sum(1).double()
    right = 2 * (pred & truth).sum(1).double()
    return torch.where(right + wrong > 0, right / (right + wrong), 1.0)


def average_precision(score: Tensor, truth: Tensor) -> Tensor:
    """Average precision of each class, NaN for classes without a positive.

    (mmpretrain's function gives 0 for such a class, which would pull down a
    mean over classes that were never asked for.)

    Args:
        score: Probabilities, ``(M, K)``.
        truth: Multi-hot labels, ``(M, K)``.

    Returns:
        ``(K,)`` float64 in [0, 1].
    """
    from mmpretrain.evaluation import AveragePrecision

    truth = (truth > 0.5).long()
    occurs = truth.sum(0) > 0
    result = torch.full((truth.shape[1],), torch.nan, dtype=torch.float64)
    if occurs.any():
        percent = AveragePrecision.calculate(
            score[:, occurs], truth[:, occurs], average=None
        )
        result[occurs.cpu()] = percent.double().cpu() / 100
    return result


def default_thresholds(step: float = 0.05) -> Tuple[float, ...]:
    """``step, 2 * step, ...`` below 1: by default .05, .1, ... .95."""
    return tuple(round(step * i, 6) for i in range(1, round(1 / step)))
