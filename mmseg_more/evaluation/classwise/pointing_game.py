"""Pointing game: whether the maximum of a localization map lies on the object."""

from typing import Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor

from mmseg.registry import METRICS

from .classwise_metric import ClassFigure
from .map_metric import MapMetric


def strongest_point(score: Tensor, valid: Tensor) -> Optional[Tuple[int, int]]:
    """Row and column of the maximum among the valid pixels; of several, the first by rows.

    Args:
        score: The map ``(H, W)``.
        valid: Pixels that count, ``(H, W)`` bool, some of them.

    Returns:
        None where the map is the same at all valid pixels: it points nowhere.
    """
    if score[valid].min() == score[valid].max():
        return None
    index = int(score.masked_fill(~valid, -torch.inf).argmax())
    return divmod(index, score.shape[1])


def hits(point: Tuple[int, int], mask: Tensor, tolerance: float) -> bool:
    """Whether a pixel of the mask is at most ``tolerance`` pixels away from the point.

    Args:
        point: Row and column.
        mask: The object, ``(H, W)`` bool.
        tolerance: Straight distance between the centres of the pixels.
    """
    offset = mask.nonzero() - torch.tensor(point)
    return bool(((offset**2).sum(1) <= tolerance**2).any())


@METRICS.register_module()
class PointingGameMetric(MapMetric):
    """Pointing game of localization maps: the share of maxima that lie on the object.

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016: for each
    image and each of its classes, the maximum of the map of the class is a hit if it lies
    on an object of the class or at most ``tolerance`` pixels away. The accuracy of a class
    is ``hits / (hits + misses)``, the figure the mean over the classes. The difficult cases
    are those in which the objects of the class cover less than a quarter of the image, and
    another class is there as well.

    Objects are the pixels of the class in the truth; a class whose pixels are all to be
    ignored is not asked for. The maximum is that of the pixels that are not to be ignored;
    of several equal ones the first by rows. A map that is constant is a miss.

    Keys, in percent: ``lam/pointing_game``, ``lam/pointing_game_difficult`` (NaN without
    such a case), and so for each other map.

    Args:
        maps: As in :class:`MapMetric`. Defaults to None.
        tolerance: In pixels, 0 or more. Defaults to 15, the paper's for images of
            about 500 pixels; smaller images need a smaller one.
        ignore_index: As in :class:`ClasswiseMetric`. Defaults to 255.
        out_json: As in :class:`ClasswiseMetric`. Defaults to None.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`. Defaults to None.
    """

    title = 'Pointing game of each class'

    def __init__(
        self,
        maps: Optional[Sequence[str]] = None,
        tolerance: float = 15,
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(maps, ignore_index, out_json, collect_device, prefix)
        if tolerance < 0:
            raise ValueError(f'tolerance must be 0 pixels or more, got {tolerance}')
        self.tolerance = tolerance

    def _count_maps(self, maps: Dict[int, Tensor], truth: Tensor) -> Dict[str, Tensor]:
        # of each class (cases, hits), all of them and the difficult ones
        counts = torch.zeros(self._num_classes(), 2, 2, dtype=torch.int64)
        valid = truth != self.ignore_index
        for k, score in maps.items():
            mask = truth == k + 1
            if not mask.any():
                continue
            point = strongest_point(score, valid)
            hit = point is not None and hits(point, mask, self.tolerance)
            difficult = len(maps) > 1 and 4 * int(mask.sum()) < mask.numel()
            counts[k, 0] = torch.tensor([1, hit])
            counts[k, 1] = torch.tensor([difficult, difficult and hit])
        return dict(cases=counts)

    def _figures(self) -> Dict[str, ClassFigure]:
        figures = {}
        for name in self._map_names():
            cases, found = self._counts[f'{name}/cases'].double().unbind(-1)
            for key, accuracy in zip(
                ('pointing_game', 'pointing_game_difficult'),
                (100 * found / cases).unbind(1),
            ):
                figures[f'{name}/{key}'] = ClassFigure(
                    accuracy.nanmean().item(),
                    # background, the first class of the data set, has no map
                    torch.cat([accuracy.new_full((1,), torch.nan), accuracy]),
                )
        return figures
