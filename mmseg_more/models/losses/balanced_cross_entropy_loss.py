"""Segmentation loss: background and foreground count half each."""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.registry import MODELS

from ...localization.pseudo_label import IGNORE_INDEX


def balanced_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = IGNORE_INDEX,
    weight: Optional[Tensor] = None,
) -> Tensor:
    """Cross entropy, averaged over background and foreground separately.

    ``.5 * sum_bg / (n_bg + 1e-6) + .5 * sum_fg / (n_fg + 1e-6)``.

    Args:
        logits: ``(B, K + 1, H, W)``, index 0 is background.
        labels: int64 ``(B, H, W)``.
        ignore_index: Label that does not count.
        weight: Factor of each pixel's cross entropy, ``(B, H, W)``; the numbers of pixels
            that it is averaged over stay. None: 1.

    Returns:
        Scalar; 0 if every pixel is ignored.
    """
    pixel = F.cross_entropy(logits, labels, reduction='none', ignore_index=ignore_index)
    if weight is not None:
        pixel = pixel * weight
    background = labels == 0
    foreground = ~background & (labels != ignore_index)
    halves = [
        pixel.masked_fill(~part, 0.0).sum() / (part.sum() + 1e-6)
        for part in (background, foreground)
    ]
    return 0.5 * halves[0] + 0.5 * halves[1]


@MODELS.register_module()
class BalancedCrossEntropyLoss(nn.Module):
    """Module of :func:`balanced_cross_entropy`; also the ``loss_decode`` of any head.

    Args:
        ignore_index: Label that does not count. Defaults to 255.
        loss_weight: Factor of the loss. Defaults to 1.0.
        loss_name: Its key in the log of a decode head, to begin with 'loss'. Defaults to
            'loss_seg'.
    """

    def __init__(
        self,
        ignore_index: int = IGNORE_INDEX,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_seg',
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        weight: Optional[Tensor] = None,
        ignore_index: Optional[int] = None,
    ) -> Tensor:
        """Weighted loss of ``(B, K+1, H, W)`` logits, ``(B, H, W)`` labels. A decode head
        gives its own ``ignore_index`` and the pixels' ``weight``, see
        :func:`balanced_cross_entropy`."""
        ignore_index = self.ignore_index if ignore_index is None else ignore_index
        return self.loss_weight * balanced_cross_entropy(
            logits, labels, ignore_index, weight
        )
