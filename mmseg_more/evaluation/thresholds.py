"""Maps become labels by a background threshold: a fixed one, and the best."""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from ..localization import move_threshold
from ..masks.calibration import CALIBRATED_MAPS, Calibration, MapThreshold, as_calibration
from ..models.structures import MAP_NAMES
from .functional import (
    confusion_at_thresholds,
    default_thresholds,
    mean_iou,
    threshold_histogram,
)

Bkg = Union[float, Mapping[str, float], str, Calibration]
"""Thresholds, as the metrics take them."""


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
            that the mapping leaves out takes .5. Or a file of thresholds that were chosen
            without masks (:class:`~mmseg_more.masks.Calibration`); a map that it leaves
            out takes .5.
        sweep: Thresholds to choose the best of, to which ``bkg`` is added. Defaults
            to .05, .1, ... .95.
        kinds: Whose thresholds of a file a map takes: 'raw', of maps of scale 1, or 'ms',
            of maps of several scales. One for all, or one for each by its name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a map is unknown or a threshold not in [0, 1), or the file has no
            thresholds of this kind.
    """

    def __init__(
        self,
        bkg: Bkg = 0.5,
        sweep: Optional[Sequence[float]] = None,
        kinds: Union[str, Mapping[str, str]] = 'raw',
    ) -> None:
        self._of_file: Dict[str, MapThreshold] = {}
        self._file: Optional[Calibration] = None
        if isinstance(bkg, (str, Calibration)):
            self._file = as_calibration(bkg)
            if isinstance(kinds, str):
                kinds = dict.fromkeys(MAP_NAMES, kinds)
            self._of_file = {
                name: self._file.threshold(name, kinds[name])
                for name in CALIBRATED_MAPS
                if name in self._file.of_kind(kinds[name])
            }
            bkg = {name: found.bkg for name, found in self._of_file.items()}
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
        classes: Sequence[str] = (),
    ) -> Tensor:
        """Counts of one image for all thresholds of a map, on the CPU.

        Args:
            name: Which of ``MAP_NAMES``.
            maps: ``(P, H, W)`` in [0, 1].
            gt_score: Multi-hot image labels ``(K,)``: the classes that may appear.
            truth: True dense labels ``(H, W)``.
            ignore_index: Label of pixels that do not count.
            indices: Classes of the channels, ascending, int64 ``(P,)``; None: all K.
            classes: Names of the K classes, for thresholds of single classes. The maps
                of these are bent so that their threshold comes to lie at the map's ``bkg``;
                a sweep moves the thresholds of all classes together.

        Raises:
            ValueError: If a file has a threshold of a class that is unknown.
        """
        if indices is None:
            indices = torch.arange(len(gt_score))
        maps = self._aligned(name, maps, indices, classes)
        value, label = strongest_class(maps, gt_score, indices)
        return threshold_histogram(
            label,
            value,
            truth.to(maps.device),
            torch.tensor(self.sweep[name], dtype=torch.float64),
            len(gt_score),
            ignore_index,
        ).cpu()

    def of_classes(self, name: str, classes: Sequence[str]) -> Optional[Tuple[float, ...]]:
        """Thresholds of the K classes; None where they share that of the map.

        Args:
            name: Which of ``MAP_NAMES``.
            classes: Names of the K classes, without background.

        Raises:
            ValueError: If a file has a threshold of a class that is unknown.
        """
        if name not in self._of_file or self._file is None:
            return None
        return self._file.named(self._of_file[name], classes)

    def _aligned(
        self, name: str, maps: Tensor, indices: Tensor, classes: Sequence[str]
    ) -> Tensor:
        """Maps that all have the threshold ``bkg``."""
        thresholds = self.of_classes(name, classes)
        if thresholds is None:
            return maps
        own = torch.tensor(thresholds, dtype=torch.float64)[indices.cpu()]
        return move_threshold(maps.float(), own, max(self.bkg[name], 1e-6))

    def figures(
        self, name: str, histogram: Tensor, absent_classes: str = 'skip'
    ) -> SweptFigures:
        """From the histograms of a map, summed over the images.

        ``absent_classes``: as in
        :func:`~mmseg_more.evaluation.functional.segmentation_figures`.
        """
        matrices = confusion_at_thresholds(histogram)
        score = torch.tensor(
            [mean_iou(matrix, absent_classes) for matrix in matrices], dtype=torch.float64
        )
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
    allowed = gt_score.to(maps.device)[indices] > 0
    maps, indices = maps[allowed], indices[allowed]
    if not len(indices):  # background all over
        value = maps.new_zeros(maps.shape[-2:])
        return value, torch.zeros_like(value, dtype=torch.long)
    value, channel = maps.max(0)
    return value, indices[channel]
