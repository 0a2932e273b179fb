"""Segmentation loss: background and foreground count half each."""

from typing import Optional, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.registry import MODELS

from ...localization.pseudo_label import IGNORE_INDEX
from .batch_counts import BatchCounts, count_batch


def balanced_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = IGNORE_INDEX,
    counts: Optional[BatchCounts] = None,
) -> Tensor:
    """Cross entropy, averaged over background and foreground separately.

    ``.5 * sum_bg / (n_bg + 1e-6) + .5 * sum_fg / (n_fg + 1e-6)``.

    Args:
        logits: ``(B, K + 1, H, W)``, index 0 is background.
        labels: int64 ``(B, H, W)``.
        ignore_index: Label that does not count.
        counts: ``n_bg`` and ``n_fg`` of all processes, of which the result is then this
            one's part (:meth:`BatchCounts.average`). None: of this batch.

    Returns:
        Scalar; 0 if every pixel is ignored.
    """
    pixel = F.cross_entropy(logits, labels, reduction='none', ignore_index=ignore_index)
    parts = _background_and_foreground(labels, ignore_index)
    counts = count_batch(*parts) if counts is None else counts
    halves = [
        counts.average(pixel.masked_fill(~part, 0.0).sum(), kind, 1e-6)
        for kind, part in enumerate(parts)
    ]
    return 0.5 * halves[0] + 0.5 * halves[1]


def _background_and_foreground(labels: Tensor, ignore_index: int) -> Tuple[Tensor, Tensor]:
    background = labels == 0
    return background, ~background & (labels != ignore_index)


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

    def count(self, labels: Tensor) -> BatchCounts:
        """Background and foreground pixels of labels ``(B, H, W)``."""
        return count_batch(*_background_and_foreground(labels, self.ignore_index))

    def forward(
        self, logits: Tensor, labels: Tensor, counts: Optional[BatchCounts] = None
    ) -> Tensor:
        """Weighted loss of ``(B, K+1, H, W)`` logits, ``(B, H, W)`` labels; ``counts`` as
        :func:`balanced_cross_entropy`."""
        return self.loss_weight * balanced_cross_entropy(
            logits, labels, self.ignore_index, counts
        )
