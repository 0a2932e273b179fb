"""The patch affinity loss in any segmentor: an auxiliary head."""

from typing import Dict, Optional, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmseg.registry import MODELS
from mmseg.structures import SegDataSample


@MODELS.register_module()
class PatchAffinityHead(BaseModule):
    """Have a feature map of the backbone alike within a label and apart between labels.

    The auxiliary head of a stock ``EncoderDecoder`` for
    :class:`~mmseg_more.models.losses.PatchAffinityLoss`. It has no weights, predicts
    nothing, and what it costs grows with the square of the map's positions: choose a
    coarse map.

    Args:
        in_index: Which of the backbone's (or neck's) maps. Defaults to -1, the last.
        ignore_index: Label of pixels that do not count. Defaults to 255.
        loss_decode: Config of the loss. Defaults to None:
            ``dict(type='PatchAffinityLoss')``.
        init_cfg: Nothing to initialise. Defaults to None.

    Example:
        >>> model = dict(
        ...     type='EncoderDecoder',
        ...     auxiliary_head=dict(
        ...         type='PatchAffinityHead', in_index=-1,
        ...         loss_decode=dict(type='PatchAffinityLoss', loss_weight=0.3)))
    """

    def __init__(
        self,
        in_index: int = -1,
        ignore_index: int = 255,
        loss_decode: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_index = in_index
        self.ignore_index = ignore_index
        self.loss_decode = MODELS.build(loss_decode or dict(type='PatchAffinityLoss'))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The map ``(B, D, h, w)`` of the maps that an ``EncoderDecoder`` passes."""
        return inputs[self.in_index]

    def loss(
        self,
        inputs: Sequence[Tensor],
        batch_data_samples: Sequence[SegDataSample],
        train_cfg: Optional[dict] = None,
    ) -> Dict[str, Tensor]:
        """Weighted loss of the map, its labels those in the middle of each position.

        Args:
            inputs: Maps that an ``EncoderDecoder`` passes.
            batch_data_samples: With ``gt_sem_seg`` at the size of the images.
            train_cfg: Not used.
        """
        patches = self.forward(inputs)
        labels = torch.stack([sample.gt_sem_seg.data for sample in batch_data_samples])
        labels = F.interpolate(
            labels.float(), size=patches.shape[-2:], mode='nearest-exact'
        )  # (B, 1, h, w)
        with torch.autocast(patches.device.type, enabled=False):
            loss = self.loss_decode(
                patches.float(), labels.squeeze(1).long(), ignore_index=self.ignore_index
            )
        return {self.loss_decode.loss_name: loss}
