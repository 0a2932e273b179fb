"""Test-time augmentation of MoRe's segmentation."""

from typing import Dict, List

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
    """

    def merge_preds(
        self, data_samples_list: List[List[SegDataSample]]
    ) -> List[SegDataSample]:
        """Merge the views of each image.

        Args:
            data_samples_list: Per image, its views, each with ``seg_logits``
                un-flipped and resized to ``ori_shape``.

        Returns:
            One data sample per image: ``seg_logits (K+1, H, W)``,
            ``pred_sem_seg (1, H, W)`` (0 is background), and what the first view
            carries of truth and image scores.
        """
        return [self._merge(views) for views in data_samples_list]

    @staticmethod
    def _merge(views: List[SegDataSample]) -> SegDataSample:
        scales: Dict[tuple, Tensor] = {}
        for view in views:
            size = tuple(view.metainfo['img_shape'][:2])
            logits = view.seg_logits.data
            scales[size] = scales[size] + logits if size in scales else logits
        merged = torch.stack(list(scales.values())).amax(dim=0)
        result = views[0].new()
        result.set_data(
            dict(
                seg_logits=PixelData(data=merged),
                pred_sem_seg=PixelData(data=merged.argmax(0, keepdim=True)),
            )
        )
        return result
