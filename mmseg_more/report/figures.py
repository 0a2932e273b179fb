"""What the images of a run add up to."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..evaluation.functional import (
    SegmentationFigures,
    average_precision,
    confusion_at_thresholds,
    confusion_matrix,
    mean_iou,
    segmentation_figures,
)
from ..evaluation.thresholds import MapThresholds
from ..localization.pseudo_label import IGNORE_INDEX
from .seen_image import JUDGED, SeenImage


class ImageFigures(NamedTuple):
    """How well the judged labels of one image fit its truth."""

    iou: Optional[float]
    """Mean IoU over the labels that one of the two shows, in [0, 1]; None without truth."""
    class_ious: Dict[int, float]
    """IoU of each of these labels, in [0, 1]."""


class ThresholdCurve(NamedTuple):
    """The mIoU of a map at each threshold."""

    name: str
    """Of the map."""
    thresholds: List[float]
    """Ascending, in [0, 1)."""
    mious: List[float]
    """In [0, 1]."""
    fixed: float
    """The threshold that the map is evaluated with."""
    best: float
    """The smallest threshold of the highest mIoU."""


class RunFigures:
    """Counts of the images of a run, and the figures that they give.

    Dense labels and maps are compared with the truth as
    :class:`~mmseg_more.evaluation.LocalizationMetric` does. An image without truth counts
    for what needs none.

    Args:
        classes: ``C`` names, background first.
        thresholds: Fixed threshold and sweep of each map.
    """

    def __init__(self, classes: Sequence[str], thresholds: MapThresholds) -> None:
        self.classes = list(classes)
        self.thresholds = thresholds
        self.num_images = self.num_true = 0
        self.num_labelled = torch.zeros(len(classes), dtype=torch.long)
        """Images whose image labels name the class, ``(C,)``; 0 for background."""
        self.num_shown = torch.zeros(len(classes), dtype=torch.long)
        """Images whose judged labels show it, ``(C,)``."""
        self.num_pixels = torch.zeros(len(classes), dtype=torch.long)
        """Pixels of the judged labels, ``(C,)``."""
        self._confidence = torch.zeros(2, len(classes), dtype=torch.float64)
        self._confidences: List[float] = []
        self._counts: Dict[str, Tensor] = {}
        self._histograms: Dict[str, Tensor] = {}
        self._scores: List[Tuple[Tensor, Tensor]] = []

    # ------------------------------------------------------------- one image
    def add(self, seen: SeenImage) -> ImageFigures:
        """Count an image.

        Raises:
            ValueError: If labels or sizes do not fit each other or the classes.
        """
        self.num_images += 1
        self._check(seen)
        self._count_labels(seen)
        if seen.gt_score is not None and seen.pred_score is not None:
            self._scores.append((seen.pred_score, seen.gt_score))
        if seen.truth is None:
            return ImageFigures(None, {})
        self.num_true += 1
        for title in set(JUDGED) & set(seen.labels):
            count = self._confusion(seen.labels[title], seen.truth)
            self._counts[title] = self._counts.get(title, 0) + count
        if seen.gt_score is not None:
            for name, value in seen.maps.items():
                histogram = self.thresholds.histogram(
                    name,
                    value,
                    seen.gt_score,
                    seen.truth,
                    IGNORE_INDEX,
                    seen.map_indices,
                    self.classes[1:],
                )
                self._histograms[name] = self._histograms.get(name, 0) + histogram
        return _of_image(self._confusion(seen.labels[seen.judged], seen.truth))

    def _check(self, seen: SeenImage) -> None:
        for title, labels in (*seen.labels.items(), ('truth', seen.truth)):
            if labels is None:
                continue
            if labels.shape != seen.image.shape[:2]:
                raise ValueError(
                    f'the {title} of {seen.name} has the size {tuple(labels.shape)}, its '
                    f'image {seen.image.shape[:2]}'
                )
            values = labels[labels != IGNORE_INDEX]
            if len(values) and not 0 <= values.min() <= values.max() < len(self.classes):
                raise ValueError(
                    f'the {title} of {seen.name} holds labels up to {int(values.max())}, '
                    f'the data set has the classes 0..{len(self.classes) - 1}'
                )

    def _count_labels(self, seen: SeenImage) -> None:
        labels = seen.labels[seen.judged]
        pixels = torch.bincount(
            labels[labels != IGNORE_INDEX].flatten(), minlength=len(self.classes)
        )
        self.num_pixels += pixels
        self.num_shown += pixels > 0
        if seen.gt_score is not None:
            self.num_labelled[1:] += (seen.gt_score > 0.5).long()
        if seen.confidence is not None:
            self._confidences.append(seen.confidence)
            shown = (pixels > 0).double()
            self._confidence += torch.stack([shown * seen.confidence, shown])

    def _confusion(self, labels: Tensor, truth: Tensor) -> Tensor:
        # where a mask says "ignored" there is nothing to compare
        truth = torch.where(labels == IGNORE_INDEX, IGNORE_INDEX, truth)
        return confusion_matrix(labels, truth, len(self.classes), IGNORE_INDEX)

    # ------------------------------------------------------------- all images
    @property
    def judged(self) -> str:
        """Title of the judged labels that were compared with the truth; '' if none were."""
        return next((title for title in JUDGED if title in self._counts), '')

    def confusion(self, title: str) -> Tensor:
        """Confusion matrix ``(C, C)`` of judged labels, the truth in the rows."""
        return self._counts[title]

    def segmentation(self) -> Dict[str, SegmentationFigures]:
        """Figures of maps at their fixed thresholds, and of labels, by name or title."""
        matrices = {
            name: self.thresholds.figures(name, histogram).confusion
            for name, histogram in self._histograms.items()
        }
        for title in JUDGED:
            if title in self._counts:
                matrices[title] = self._counts[title]
        return {name: segmentation_figures(matrix) for name, matrix in matrices.items()}

    def curves(self) -> List[ThresholdCurve]:
        """The mIoU of each map over its thresholds."""
        return [
            ThresholdCurve(
                name,
                self.thresholds.sweep[name],
                [mean_iou(matrix) for matrix in confusion_at_thresholds(histogram)],
                self.thresholds.bkg[name],
                self.thresholds.figures(name, histogram).best_threshold,
            )
            for name, histogram in self._histograms.items()
        ]

    def class_confidence(self) -> Tensor:
        """Mean confidence of the images that show a class, float64 ``(C,)``; else NaN."""
        total, number = self._confidence
        return total / number

    def mean_confidence(self) -> Optional[float]:
        """Over the images that have one; None if none has."""
        if not self._confidences:
            return None
        return sum(self._confidences) / len(self._confidences)

    def class_precision(self) -> Optional[Tensor]:
        """Average precision of the K image labels, float64; None without any scores."""
        if not self._scores:
            return None
        scores, truth = (torch.stack(column) for column in zip(*self._scores))
        return average_precision(scores, truth)


def _of_image(confusion: Tensor) -> ImageFigures:
    figures = segmentation_figures(confusion, 'zero')
    ious = figures.iou.tolist()
    counted = figures.counted.nonzero().flatten().tolist()
    if not counted:  # all of it is ignored
        return ImageFigures(None, {})
    return ImageFigures(figures.mean('iou'), {label: ious[label] for label in counted})
