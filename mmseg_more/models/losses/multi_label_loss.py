"""Image classification loss of both classifiers."""

import torch.nn.functional as F
from torch import Tensor

from mmseg.registry import MODELS

from .decode_head import LossOfMoRe


@MODELS.register_module()
class MultiLabelSoftMarginLoss(LossOfMoRe):
    """Multi-label soft margin loss of image logits.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
    """

    reads = 'scores and labels of whole images'

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, image_labels: Tensor) -> Tensor:
        """Weighted loss of logits and multi-hot labels, both ``(B, K)``."""
        return self.loss_weight * F.multilabel_soft_margin_loss(logits, image_labels)
