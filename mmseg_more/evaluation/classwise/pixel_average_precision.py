"""PxAP: average precision of the pixels of localization maps."""

from typing import Dict, Optional, Sequence

import torch
from torch import Tensor

from mmseg.registry import METRICS

from .classwise_metric import ClassFigure
from .map_metric import MapMetric


def score_histogram(score: Tensor, thresholds: Tensor) -> Tensor:
    """Count scores by the highest threshold that they reach.

    Args:
        score: ``(n,)`` in [0, 1].
        thresholds: ``(S,)`` float64, ascending, the first of them 0.

    Returns:
        ``(S,)`` int64; ``[s]`` counts the scores in ``[thresholds[s], thresholds[s + 1])``.
    """
    bins = torch.bucketize(score.to(thresholds), thresholds, right=True) - 1
    return torch.bincount(bins, minlength=len(thresholds))


def pixel_average_precision(histogram: Tensor) -> Tensor:
    """Area below the curve of precision and recall, from counts by threshold.

    ``PxAP = sum_s PxPrec(t_s) (PxRec(t_s) - PxRec(t_(s+1)))`` over the thresholds ``t_s``,
    where a pixel is predicted at ``score >= t_s`` and nothing is above the last one.

    Args:
        histogram: ``(..., 2, S)`` counts as :func:`score_histogram` makes them, of the
            pixels that are not of the class and of those that are.

    Returns:
        ``(...)`` float64 in [0, 1]; NaN where no pixel is of the class.
    """
    # how many pixels reach each threshold, the highest threshold first
    reached = histogram.double().flip(-1).cumsum(-1)
    true = reached[..., 1, :]
    precision = true / reached.sum(-2)
    recall = true / true[..., -1:]
    gain = recall.diff(dim=-1, prepend=torch.zeros_like(recall[..., :1]))
    # a threshold that no pixel reaches has no precision, and gains no recall
    return (precision.nan_to_num(0) * gain).sum(-1)


@METRICS.register_module()
class PxAPMetric(MapMetric):
    """Pixel average precision (PxAP) of localization maps: no threshold is chosen.

    Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR
    2020: at each threshold, precision and recall of the pixels of all images together;
    PxAP is the area below the curve, see :func:`pixel_average_precision`. In an image the
    map of each of its classes is compared with the mask of that class.

    Keys, in percent: ``lam/PxAP``, the paper's figure, pixels of all classes together, in
    which large classes weigh more; ``lam/mPxAP``, the mean over the PxAP of the classes
    that occur; and so for each other map.

    Args:
        maps: As in :class:`MapMetric`. Defaults to None.
        num_thresholds: Thresholds ``0, 1/n, 2/n, ...`` below 1; to these comes 1.
            Defaults to 1000, the benchmark's.
        ignore_index: As in :class:`ClasswiseMetric`. Defaults to 255.
        out_json: As in :class:`ClasswiseMetric`. Defaults to None.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`. Defaults to None.
    """

    title = 'Pixel average precision of each class'

    def __init__(
        self,
        maps: Optional[Sequence[str]] = None,
        num_thresholds: int = 1000,
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(maps, ignore_index, out_json, collect_device, prefix)
        if num_thresholds < 1:
            raise ValueError(f'num_thresholds must be 1 or more, got {num_thresholds}')
        steps = torch.arange(num_thresholds + 1, dtype=torch.float64)
        self.thresholds = steps / num_thresholds

    def _count_maps(self, maps: Dict[int, Tensor], truth: Tensor) -> Dict[str, Tensor]:
        shape = (self._num_classes(), 2, len(self.thresholds))
        counts = torch.zeros(shape, dtype=torch.int64)
        valid = truth != self.ignore_index
        for k, score in maps.items():
            for row, mask in enumerate((truth != k + 1, truth == k + 1)):
                counts[k, row] = score_histogram(score[mask & valid], self.thresholds)
        return dict(pixels=counts)

    def _figures(self) -> Dict[str, ClassFigure]:
        figures = {}
        for name in self._map_names():
            counts = self._counts[f'{name}/pixels']
            precision = 100 * pixel_average_precision(counts)
            figures[f'{name}/PxAP'] = ClassFigure(
                100 * pixel_average_precision(counts.sum(0)).item(),
                # background, the first class of the data set, has no map
                torch.cat([precision.new_full((1,), torch.nan), precision]),
            )
            figures[f'{name}/mPxAP'] = ClassFigure(precision.nanmean().item())
        return figures
