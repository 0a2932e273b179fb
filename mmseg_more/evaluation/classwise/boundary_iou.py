"""Boundary IoU of a semantic segmentation."""

import math
from typing import Dict, Mapping, Optional, Sequence, Union

import cv2
import numpy as np
import torch
from torch import Tensor

from mmseg.registry import METRICS

from ..sample import read_truth
from .classwise_metric import ClassFigure, ClasswiseMetric
from .label_sources import LabelSources


def boundary_distance(size: Sequence[int], dilation_ratio: float = 0.02) -> int:
    """Width of the boundary in pixels: a share of the image's diagonal, at least 1.

    Args:
        size: ``(H, W)``.
        dilation_ratio: The share.
    """
    return max(1, round(dilation_ratio * math.hypot(*size)))


def mask_boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    """Inner boundary: the mask's pixels near its outline, ``G_d`` intersected with ``G``.

    Near is at most ``distance`` rows and columns away from a pixel that is not in the
    mask. The image is surrounded by such pixels: where it cuts an object, there is outline.

    Args:
        mask: ``(H, W)`` bool.
        distance: In pixels.

    Returns:
        ``(H, W)`` bool.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    inside = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)
    return mask & (inside[1:-1, 1:-1] == 0)


def boundary_counts(
    pred: np.ndarray,
    truth: np.ndarray,
    num_labels: int,
    distance: int,
    ignore_index: int = 255,
) -> Tensor:
    """Pixels of the boundaries of each label in one image.

    Pixels to ignore belong to no mask, neither the prediction's nor the truth's, so it does
    not matter what was predicted there: a prediction that is right everywhere else has the
    truth's boundaries.

    Args:
        pred: Predicted labels ``(H, W)``.
        truth: True labels ``(H, W)``.
        num_labels: ``C``.
        distance: Width of the boundary in pixels.
        ignore_index: Defaults to 255.

    Returns:
        ``(C, 3)`` int64: intersection and union of both boundaries, and the truth's alone.
    """
    valid = truth != ignore_index
    counts = torch.zeros(num_labels, 3, dtype=torch.int64)
    for label in np.union1d(truth[valid], pred[valid]).tolist():
        true = mask_boundary(truth == label, distance)
        predicted = mask_boundary((pred == label) & valid, distance)
        both = int((true & predicted).sum())
        alone = int(true.sum())
        union = alone + int(predicted.sum()) - both
        counts[label] = torch.tensor([both, union, alone])
    return counts


@METRICS.register_module()
class BoundaryIoUMetric(ClasswiseMetric):
    """Boundary IoU: IoU of the bands along the outlines.

    Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation",
    CVPR 2021: with the pixels ``G_d`` and ``P_d`` that are within ``d`` of the outline of
    truth ``G`` and prediction ``P``,

        ``|(G_d & G) & (P_d & P)| / |(G_d & G) | (P_d & P)|``

    and ``d`` = 2% of the image's diagonal. It is for the semantic segmentation what the
    paper has for single objects: ``G`` and ``P`` are all pixels of a label in an image,
    intersections and unions are summed over the images, and the figure is the mean over
    the labels that occur in the truth, just as mIoU. Pixels to ignore belong to no mask
    (see :func:`boundary_counts`), so that a ring to ignore around the objects, as VOC's, is
    taken for their outline.

    It reads ``gt_sem_seg`` and ``pred_sem_seg``, of any segmentor and data set; for maps
    also the map and ``gt_score``.

    Keys, in percent: ``seg/boundary_mIoU``, and so for each other source.

    Args:
        sources: What is scored: 'seg', the segmentation, and the maps
            'cam', 'lam', 'fused', 'attention', which :class:`LocalizationHook` asks for.
            Defaults to ('seg', ).
        bkg: Background threshold of the maps, as in
            :class:`LocalizationMetric`. Defaults to .5.
        dilation_ratio: ``d`` as a share of the image's diagonal, in (0, 1).
            Defaults to .02, the paper's.
        background: Whether the label "background", if it is the data set's first, is
            one of those that the mean is over. Defaults to True, as in ``seg/mIoU``, so
            that the two compare.
        ignore_index: As in :class:`ClasswiseMetric`. Defaults to 255.
        out_json: As in :class:`ClasswiseMetric`. Defaults to None.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`. Defaults to None.
    """

    title = 'Boundary IoU of each class'

    def __init__(
        self,
        sources: Sequence[str] = ('seg',),
        bkg: Union[float, Mapping[str, float]] = 0.5,
        dilation_ratio: float = 0.02,
        background: bool = True,
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(ignore_index, out_json, collect_device, prefix)
        if not 0 < dilation_ratio < 1:
            raise ValueError(f'dilation_ratio must lie in (0, 1), got {dilation_ratio}')
        self.sources = LabelSources(sources, bkg)
        self.dilation_ratio = dilation_ratio
        self.background = background

    def _count(self, sample: dict) -> Dict[str, Tensor]:
        num_labels = len(self._class_names())
        truth = read_truth(sample, num_labels, self.ignore_index)
        size = tuple(truth.shape)
        distance = boundary_distance(size, self.dilation_ratio)
        return {
            name: boundary_counts(
                labels.numpy(), truth.cpu().numpy(), num_labels, distance, self.ignore_index
            )
            for name, labels in self.sources.read(sample, num_labels, size).items()
        }

    def _figures(self) -> Dict[str, ClassFigure]:
        figures = {}
        for name in self.sources.names:
            both, union, alone = self._counts[name].double().unbind(1)
            iou = 100 * both / union  # NaN where a label is neither true nor predicted
            occurs = alone > 0
            if not self.background and self._class_names()[0] == 'background':
                occurs[0] = False
            figures[f'{name}/boundary_mIoU'] = ClassFigure(
                iou[occurs].mean().item(), torch.where(occurs, iou, torch.nan)
            )
        return figures
