"""Base of the metrics of localization maps, which need no threshold."""

from abc import abstractmethod
from typing import Dict, Optional, Sequence

import torch
from torch import Tensor

from ...models.structures import MAP_NAMES
from ..sample import read_maps, read_scores, read_truth
from .classwise_metric import ClasswiseMetric

ROUNDING = 1e-5


class MapMetric(ClasswiseMetric):
    """Scores the map of each class that an image has.

    Of an image the maps of the classes in ``gt_score`` are scored, or, where it has none,
    of the classes in its truth. A class of which the sample carries no map (``map_indices``
    of other classes) has a map of zeros. Maps are in [0, 1], minimum and maximum of each
    stretched to them, as those of ``MoRe`` are.

    It reads ``gt_sem_seg``, the maps, and ``gt_score`` if there is one. The maps come from
    :class:`LocalizationHook`.

    Args:
        maps: Maps to score out of 'cam', 'lam', 'fused' and
            'attention'. Defaults to None: those that the samples carry.
        ignore_index: As in :class:`ClasswiseMetric`. Defaults to 255.
        out_json: As in :class:`ClasswiseMetric`. Defaults to None.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`. Defaults to None.
    """

    def __init__(
        self,
        maps: Optional[Sequence[str]] = None,
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(ignore_index, out_json, collect_device, prefix)
        if maps is not None:
            unknown = [name for name in maps if name not in MAP_NAMES]
            if isinstance(maps, str) or not maps or unknown:
                raise ValueError(
                    f'maps must be a list of some of {MAP_NAMES}, got {maps!r}'
                )
            maps = [name for name in MAP_NAMES if name in maps]
        self.maps = maps

    @abstractmethod
    def _count_maps(self, maps: Dict[int, Tensor], truth: Tensor) -> Dict[str, Tensor]:
        """Counts of one image and one kind of map.

        Args:
            maps: The map of each class of the image, ``(H, W)`` float32 in [0, 1], by its
                0-based index.
            truth: True labels ``(H, W)``.
        """

    def _map_names(self) -> Sequence[str]:
        """The maps that were counted, in order."""
        return [
            name
            for name in MAP_NAMES
            if any(k.startswith(f'{name}/') for k in self._counts)
        ]

    def _count(self, sample: dict) -> Dict[str, Tensor]:
        num_classes = self._num_classes()
        truth = read_truth(sample, num_classes + 1, self.ignore_index).cpu()
        names = self.maps
        if names is None and not any(name in sample for name in MAP_NAMES):
            names = [MAP_NAMES[0]]  # whose absence the reader complains about
        maps, indices = read_maps(sample, num_classes, truth.shape, names)
        if 'gt_score' in sample:
            present = read_scores(sample, 'gt_score', num_classes).nonzero().flatten()
        else:
            present = truth[(truth > 0) & (truth != self.ignore_index)].unique() - 1
        channels = {index: channel for channel, index in enumerate(indices.tolist())}
        counts = {}
        for name, value in maps.items():
            value = self._checked(value.detach().float().cpu(), name, sample)
            zeros = torch.zeros(truth.shape)
            of_classes = {
                k: value[channels[k]] if k in channels else zeros for k in present.tolist()
            }
            for key, count in self._count_maps(of_classes, truth).items():
                counts[f'{name}/{key}'] = count
        return counts

    def _checked(self, value: Tensor, name: str, sample: dict) -> Tensor:
        # resizing may overshoot by a rounding; NaN fails, too
        within = (value >= -ROUNDING) & (value <= 1 + ROUNDING)
        if not within.all():
            raise ValueError(
                f'"{name}" of {sample.get("img_path", "an image without img_path")} has '
                f'values in [{value.min():g}, {value.max():g}], expected [0, 1]: the '
                'thresholds are shares of the highest value that a map can have'
            )
        return value.clamp(0, 1)
