"""Test-time augmentation of MoRe's segmentation."""

from collections import Counter
from typing import Any, Dict, Hashable, List, Optional, Sequence, Union

import torch
from mmengine.structures import PixelData
from torch import Tensor

from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample


@MODELS.register_module()
class MoReTTAModel(SegTTAModel):
    """Sum the logits of an image and its flip, then maximum over scales.

    Unlike :class:`SegTTAModel`, which averages probabilities. Use with
    mmseg's ``TestTimeAug``; views of one ``img_shape`` count as one scale.

    A view is forgotten when it is merged: memory grows with the scales that are not
    complete, one where the views of a scale follow each other, and not with the views.
    """

    def test_step(self, data: Union[dict, tuple, list]) -> List[SegDataSample]:
        """Run the views of a batch one after the other, and merge them.

        Args:
            data: A batch of ``TestTimeAug``: of each key a list over the views.
        """
        views = _views(data)
        expected = [Counter(map(_scale, samples)) for samples in zip(*map(_samples, views))]
        merges = [_ScaleMaximum(scales) for scales in expected]
        for view in views:
            for merge, sample in zip(merges, self.module.test_step(view)):
                merge.add(sample)
        return [merge.result() for merge in merges]

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[SegDataSample]]
    ) -> List[SegDataSample]:
        """Merge the views of each image.

        Args:
            data_samples_list: Per image, its views, each with ``seg_logits``
                un-flipped and resized to ``ori_shape``, which are used up.

        Returns:
            One data sample per image: ``seg_logits (K+1, H, W)``,
            ``pred_sem_seg (1, H, W)`` (0 is background), and what the first view
            carries of truth and image scores.
        """
        results = []
        for samples in data_samples_list:
            merge = _ScaleMaximum(Counter(map(_scale, samples)))
            for sample in samples:
                merge.add(sample)
            results.append(merge.result())
        return results


class _ScaleMaximum:
    """The views of one image: sums of a scale's flips, running maximum over the scales.

    Args:
        expected: Number of views by scale.
    """

    def __init__(self, expected: Dict[Hashable, int]) -> None:
        self._expected = dict(expected)
        self._sums: Dict[Hashable, Tensor] = {}
        self._maximum: Optional[Tensor] = None
        self._first: Optional[SegDataSample] = None

    def add(self, view: SegDataSample) -> None:
        """Take a view, whose logits and prediction nobody else needs."""
        scale, logits = _scale(view), view.seg_logits.data
        for name in ('seg_logits', 'pred_sem_seg'):
            if name in view:
                delattr(view, name)
        if self._first is None:
            self._first = view.new()
        total = self._sums.pop(scale, None)
        total = logits if total is None else total.add_(logits)
        self._expected[scale] -= 1
        if self._expected[scale] > 0:
            self._sums[scale] = total
        elif self._maximum is None:
            self._maximum = total
        else:
            torch.maximum(self._maximum, total, out=self._maximum)

    def result(self) -> SegDataSample:
        """The merged sample."""
        assert self._first is not None and self._maximum is not None, 'no view was added'
        self._first.set_data(
            dict(
                seg_logits=PixelData(data=self._maximum),
                pred_sem_seg=PixelData(data=self._maximum.argmax(0, keepdim=True)),
            )
        )
        return self._first


def _views(data: Union[dict, tuple, list]) -> List[Any]:
    """The batches of the single views, as MMEngine's BaseTTAModel takes them apart."""
    if isinstance(data, dict):
        count = len(next(iter(data.values())))
        return [{key: value[i] for key, value in data.items()} for i in range(count)]
    return [[part[i] for part in data] for i in range(len(data[0]))]


def _samples(view: Any) -> Sequence[SegDataSample]:
    return view['data_samples'] if isinstance(view, dict) else view[1]


def _scale(view: SegDataSample) -> Hashable:
    return tuple(view.metainfo['img_shape'][:2])
