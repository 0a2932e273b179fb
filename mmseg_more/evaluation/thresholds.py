"""Maps become labels by a background threshold: a fixed one, and the best."""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from ..models.structures import MAP_NAMES
from .functional import (
    confusion_at_thresholds,
    default_thresholds,
    mean_iou,
    threshold_histogram,
)


class SweptFigures(NamedTuple):
    """What the thresholds of one map give."""

    confusion: Tensor
    """Confusion matrix ``(C, C)`` at the fixed threshold."""
    best_miou: float
    """mIoU at the best threshold, in [0, 1]."""
    best_threshold: float
    """The smallest of those."""


class MapThresholds:
    """Fixed threshold and sweep of each map.

    Args:
        bkg: Fixed threshold, one for all maps or one for each by its name; a map
            that the mapping leaves out takes .5.
        sweep: Thresholds to choose the best of, to which ``bkg`` is added. Defaults
            to .05, .1, ... .95.

    Raises:
        ValueError: If a map is unknown or a threshold not in [0, 1).
    """

    def __init__(
        self,
        bkg: Union[float, Mapping[str, float]] = 0.5,
        sweep: Optional[Sequence[float]] = None,
    ) -> None:
        if not isinstance(bkg, Mapping):
            bkg = dict.fromkeys(MAP_NAMES, bkg)
        unknown = set(bkg) - set(MAP_NAMES)
        if unknown:
            raise ValueError(
                f'bkg names unknown maps {sorted(unknown)}; known are {list(MAP_NAMES)}'
            )
        self.bkg: Dict[str, float] = {name: float(bkg.get(name, 0.5)) for name in MAP_NAMES}
        sweep = default_thresholds() if sweep is None else sweep
        for value in (*self.bkg.values(), *sweep):
            if not 0 <= value < 1:
                raise ValueError(f'thresholds must lie in [0, 1), got {value}')
        self.sweep: Dict[str, List[float]] = {
            name: sorted({float(t) for t in (*sweep, bkg)})
            for name, bkg in self.bkg.items()
        }

    def histogram(
        self,
        name: str,
        maps: Tensor,
        gt_score: Tensor,
        truth: Tensor,
        ignore_index: int,
        indices: Optional[Tensor] = None,
    ) -> Tensor:
        """Counts of one image for all thresholds of a map, on the CPU.

        Args:
            name: Which of ``MAP_NAMES``.
            maps: ``(P, H, W)`` in [0, 1].
            gt_score: Multi-hot image labels ``(K,)``: the classes that may appear.
            truth: True dense labels ``(H, W)``.
            ignore_index: Label of pixels that do not count.
            indices: Classes of the channels, ascending, int64 ``(P,)``; None: all K.
        """
        value, label = strongest_class(maps, gt_score, indices)
        return threshold_histogram(
            label,
            value,
            truth.to(maps.device),
            torch.tensor(self.sweep[name], dtype=torch.float64),
            len(gt_score),
            ignore_index,
        ).cpu()

    def figures(self, name: str, histogram: Tensor) -> SweptFigures:
        """From the histograms of a map, summed over the images."""
        matrices = confusion_at_thresholds(histogram)
        score = torch.tensor([mean_iou(matrix) for matrix in matrices], dtype=torch.float64)
        # NaN (nothing to score) is nowhere better than the first threshold
        best = int(score.nan_to_num(-1).argmax())
        thresholds = self.sweep[name]
        return SweptFigures(
            matrices[thresholds.index(self.bkg[name])], score[best].item(), thresholds[best]
        )


def strongest_class(
    maps: Tensor, gt_score: Tensor, indices: Optional[Tensor] = None
) -> Tuple[Tensor, Tensor]:
    """The class of the image's labels whose map is highest, in each pixel.

    Args:
        maps: ``(P, H, W)`` in [0, 1].
        gt_score: Multi-hot image labels ``(K,)``: the classes that may appear.
        indices: Classes of the channels, ascending, int64 ``(P,)``; None: all K.

    Returns:
        Value of its map and 0-based class, both ``(H, W)``; the value is 0 where no class
        may appear.
    """
    if indices is None:
        indices = torch.arange(len(gt_score))
    indices = indices.to(maps.device)
    if not len(indices):  # background all over
        value = maps.new_zeros(maps.shape[-2:])
        return value, torch.zeros_like(value, dtype=torch.long)
    allowed = gt_score.to(maps)[indices]
    value, channel = (maps * allowed[:, None, None]).max(0)
    return value, indices[channel]
