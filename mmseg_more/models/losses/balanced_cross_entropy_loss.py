"""Segmentation loss: background and foreground count half each."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.registry import MODELS

from ...localization.pseudo_label import IGNORE_INDEX


def balanced_cross_entropy(
    logits: Tensor, labels: Tensor, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Cross entropy, averaged over background and foreground separately.

    ``.5 * sum_bg / (n_bg + 1e-6) + .5 * sum_fg / (n_fg + 1e-6)``.

    Args:
        logits: ``(B, K + 1, H, W)``, index 0 is background.
        labels: int64 ``(B, H, W)``.
        ignore_index: Label that does not count.

    Returns:
        Scalar; 0 if every pixel is ignored.
    """
    pixel = F.cross_entropy(logits, labels, reduction='none', ignore_index=ignore_index)
    background = labels == 0
    foreground = ~background & (labels != ignore_index)
    halves = [
        pixel.masked_fill(~part, 0.0).sum() / (part.sum() + 1e-6)
        for part in (background, foreground)
    ]
    return 0.5 * halves[0] + 0.5 * halves[1]


@MODELS.register_module()
class BalancedCrossEntropyLoss(nn.Module):
    """Module of :func:`balanced_cross_entropy`.

    Args:
        ignore_index: Label that does not count. Defaults to 255.
        loss_weight: Factor of the loss. Defaults to 1.0.
    """

    def __init__(self, ignore_index: int = IGNORE_INDEX, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Weighted loss of ``(B, K+1, H, W)`` logits, ``(B, H, W)`` labels."""
        return self.loss_weight * balanced_cross_entropy(logits, labels, self.ignore_index)
