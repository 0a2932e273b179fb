"""MaxBoxAccV2: whether a box around what a localization map shows fits the object."""

from typing import Dict, List, Optional, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from mmseg.registry import METRICS

from .classwise_metric import ClassFigure
from .map_metric import MapMetric


def component_boxes(mask: np.ndarray) -> Tensor:
    """Tightest box of each connected component, in eight directions.

    Args:
        mask: ``(H, W)`` bool.

    Returns:
        ``(n, 4)`` float64 ``x0, y0, x1, y1``; the last column and row are not in the box,
        so its area is that of its pixels.
    """
    # outer outlines and those of holes; ten times as fast as connectedComponentsWithStats
    outlines, parents = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    if not len(outlines):
        return torch.zeros(0, 4, dtype=torch.float64)
    outer = np.reshape(parents, (-1, 4))[:, 3] < 0
    sizes = [cv2.boundingRect(outlines[index]) for index in outer.nonzero()[0].tolist()]
    boxes = torch.tensor(sizes, dtype=torch.float64)  # x, y, width, height
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def best_box_ious(score: Tensor, boxes: Tensor, thresholds: Sequence[float]) -> Tensor:
    """IoU of the best of the boxes that a map gives at each threshold.

    As in the benchmark, the map is rounded down to 256 levels, and a pixel is shown where
    its level is above the share ``threshold`` of the highest level. The boxes are those of
    the components of what is shown; the best pair of such a box and a true one counts.

    Args:
        score: The map ``(H, W)`` in [0, 1].
        boxes: True boxes ``(n, 4)``, n > 0.
        thresholds: ``(S,)`` in [0, 1).

    Returns:
        ``(S,)`` float64 in [0, 1]; 0 where nothing is shown.
    """
    level = (score.numpy() * 255).astype(np.uint8)
    highest = int(level.max())
    best: Dict[int, float] = {}  # many thresholds are one level
    ious: List[float] = []
    for threshold in thresholds:
        lowest = int(threshold * highest)
        if lowest not in best:
            found = component_boxes(level > lowest)
            best[lowest] = box_iou(found, boxes).max().item() if len(found) else 0.0
        ious.append(best[lowest])
    return torch.tensor(ious, dtype=torch.float64)


@METRICS.register_module()
class MaxBoxAccV2Metric(MapMetric):
    """MaxBoxAccV2 of localization maps: the share of objects with a fitting box.

    Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020
    and its extended version. ``BoxAcc(t, d)`` is the share of images in which a box of the
    map at threshold ``t`` (see :func:`best_box_ious`) has an IoU of ``d`` or more with a
    box of the object; ``MaxBoxAcc(d)`` is its maximum over the thresholds, which all images
    share; MaxBoxAccV2 is the mean of that over ``d = .3, .5, .7``.

    An image counts once for each of its classes that its truth holds. The true boxes are
    those of the connected components of the class in the truth; boxes of annotations are
    not read. Objects that touch are one, and of what is to be ignored there are no boxes.

    Differs from the benchmark's code, in which the boxes of maps are a column and a row too
    wide (so that a small object is missed by a perfect map) and the holes of a component
    give boxes, too.

    Keys, in percent: ``lam/MaxBoxAccV2``, and ``lam/MaxBoxAcc@50`` for each IoU, and so for
    each other map. The table shows the share of each class at the thresholds that are best
    for all.

    Args:
        maps: As in :class:`MapMetric`. Defaults to None.
        num_thresholds: Thresholds ``0, 1/n, 2/n, ...`` below 1. Defaults to 1000, the
            benchmark's; at 256 levels, 100 take a third of the time and miss little.
        ious: ``d``, each in (0, 1]. Defaults to (.3, .5, .7).
        ignore_index: As in :class:`ClasswiseMetric`. Defaults to 255.
        out_json: As in :class:`ClasswiseMetric`. Defaults to None.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`. Defaults to None.
    """

    title = 'MaxBoxAccV2 of each class'

    def __init__(
        self,
        maps: Optional[Sequence[str]] = None,
        num_thresholds: int = 1000,
        ious: Sequence[float] = (0.3, 0.5, 0.7),
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(maps, ignore_index, out_json, collect_device, prefix)
        if num_thresholds < 1:
            raise ValueError(f'num_thresholds must be 1 or more, got {num_thresholds}')
        if not ious or not all(0 < iou <= 1 for iou in ious):
            raise ValueError(f'ious must be some numbers in (0, 1], got {ious}')
        self.thresholds = [index / num_thresholds for index in range(num_thresholds)]
        self.ious = torch.tensor([float(iou) for iou in ious], dtype=torch.float64)

    def _count_maps(self, maps: Dict[int, Tensor], truth: Tensor) -> Dict[str, Tensor]:
        shape = (self._num_classes(), len(self.ious), len(self.thresholds))
        hits = torch.zeros(shape, dtype=torch.int64)
        asked = torch.zeros(shape[:1], dtype=torch.int64)
        for k, score in maps.items():
            boxes = component_boxes((truth == k + 1).numpy())
            if len(boxes):
                ious = best_box_ious(score, boxes, self.thresholds)
                hits[k] = ious >= self.ious[:, None]
                asked[k] = 1
        return dict(hits=hits, asked=asked)

    def _figures(self) -> Dict[str, ClassFigure]:
        figures = {}
        for name in self._map_names():
            hits = self._counts[f'{name}/hits'].double()
            asked = self._counts[f'{name}/asked'].double()
            accuracy, best = (100 * hits.sum(0) / asked.sum()).max(-1)  # (D,) each
            at_best = hits.gather(-1, best.expand(len(asked), -1)[..., None]).squeeze(-1)
            of_classes = (100 * at_best / asked[:, None]).mean(1)
            figures[f'{name}/MaxBoxAccV2'] = ClassFigure(
                accuracy.mean().item(),
                # background, the first class of the data set, has no map
                torch.cat([of_classes.new_full((1,), torch.nan), of_classes]),
            )
            for iou, value in zip(self.ious.tolist(), accuracy.tolist()):
                figures[f'{name}/MaxBoxAcc@{100 * iou:g}'] = ClassFigure(value)
        return figures
