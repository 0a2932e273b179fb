"""Whose labels are scored: the segmentation's, or those that a map becomes."""

from typing import Dict, Mapping, Sequence, Tuple, Union

import torch
from torch import Tensor

from ...models.structures import MAP_NAMES
from ..sample import read_maps, read_prediction, read_scores
from ..thresholds import MapThresholds, strongest_class

SOURCES: Tuple[str, ...] = ('seg', *MAP_NAMES)
"""The segmentation ``pred_sem_seg``, and the localization maps."""


class LabelSources:
    """Reads dense labels of one or several sources from a data sample.

    A map becomes a label as in :class:`LocalizationMetric`: the strongest of the classes of
    the image's labels, background where its value is ``<= bkg``.

    Args:
        sources: Some of :data:`SOURCES`.
        bkg: Background threshold, one for all maps or one for each by its name; a map
            that the mapping leaves out takes .5.

    Raises:
        ValueError: If a source is unknown or a threshold not in [0, 1).
    """

    def __init__(
        self, sources: Sequence[str], bkg: Union[float, Mapping[str, float]] = 0.5
    ) -> None:
        unknown = [name for name in sources if name not in SOURCES]
        if isinstance(sources, str) or not sources or unknown:
            raise ValueError(
                f'sources must be a list of some of {SOURCES}, got {sources!r}'
            )
        self.names = tuple(name for name in SOURCES if name in sources)
        self.bkg = MapThresholds(bkg).bkg

    def read(self, sample: dict, num_labels: int, size: Sequence[int]) -> Dict[str, Tensor]:
        """Labels ``(H, W)`` of each source on the CPU, int64, 0 = background.

        Args:
            sample: ``SegDataSample.to_dict()``. Image labels are read for maps alone.
            num_labels: ``C``, background included.
            size: ``(H, W)`` of the truth.

        Raises:
            KeyError: A field is missing.
            ValueError: Sizes or labels do not fit.
        """
        labels = {}
        names = [name for name in self.names if name != 'seg']
        if 'seg' in self.names:
            labels['seg'] = read_prediction(sample, num_labels, size).cpu().long()
        if names:
            maps, indices = read_maps(sample, num_labels - 1, size, names)
            gt_score = read_scores(sample, 'gt_score', num_labels - 1)
            for name, value in maps.items():
                value = value.to(torch.promote_types(value.dtype, torch.float32))
                strength, label = strongest_class(value, gt_score, indices)
                labels[name] = torch.where(strength > self.bkg[name], label + 1, 0).cpu()
        return labels
