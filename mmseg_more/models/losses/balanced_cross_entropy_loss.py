"""Segmentation loss: background and foreground count half each."""

from typing import Optional, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.registry import MODELS

from ...localization.pseudo_label import IGNORE_INDEX
from .batch_counts import BatchCounts, count_batch
from .resized_rows import map_rows


def balanced_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = IGNORE_INDEX,
    weight: Optional[Tensor] = None,
    counts: Optional[BatchCounts] = None,
) -> Tensor:
    """Cross entropy, averaged over background and foreground separately.

    ``.5 * sum_bg / (n_bg + 1e-6) + .5 * sum_fg / (n_fg + 1e-6)``.

    Args:
        logits: ``(B, K + 1, h, w)``, index 0 is background; of another size than the labels
            they are resized bilinearly (align_corners False), a few rows at a time.
        labels: int64 ``(B, H, W)``.
        ignore_index: Label that does not count.
        weight: Factor of each pixel's cross entropy, ``(B, H, W)``; the numbers of pixels
            that it is averaged over stay. None: 1.
        counts: ``n_bg`` and ``n_fg`` of all processes, of which the result is then this
            one's part (:meth:`BatchCounts.average`). None: of this batch.

    Returns:
        Scalar; 0 if every pixel is ignored.
    """
    pixel = _cross_entropy(logits, labels, ignore_index)
    if weight is not None:
        pixel = pixel * weight
    parts = _background_and_foreground(labels, ignore_index)
    counts = count_batch(*parts) if counts is None else counts
    halves = [
        counts.average(pixel.masked_fill(~part, 0.0).sum(), kind, 1e-6)
        for kind, part in enumerate(parts)
    ]
    return 0.5 * halves[0] + 0.5 * halves[1]


def _cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Of each pixel, ``(B, H, W)``; 0 where it is ignored."""
    if logits.shape[-2:] == labels.shape[-2:]:
        return F.cross_entropy(logits, labels, reduction='none', ignore_index=ignore_index)

    def of_rows(logits: Tensor, rows: slice) -> Tensor:
        pixel = F.cross_entropy(
            logits.flatten(0, 2),
            labels[:, rows].flatten(),
            reduction='none',
            ignore_index=ignore_index,
        )
        return pixel.view(logits.shape[:3])

    return map_rows(of_rows, logits, labels.shape[-2:])


def _background_and_foreground(labels: Tensor, ignore_index: int) -> Tuple[Tensor, Tensor]:
    background = labels == 0
    return background, ~background & (labels != ignore_index)


@MODELS.register_module()
class BalancedCrossEntropyLoss(nn.Module):
    """Module of :func:`balanced_cross_entropy`; also the ``loss_decode`` of any head.

    Args:
        ignore_index: Label that does not count. Defaults to 255.
        loss_weight: Factor of the loss. Defaults to 1.0.
        loss_name: Its key in the log of a decode head, to begin with 'loss'. Defaults to
            'loss_seg'.
    """

    resizes_logits = True
    """Tells :class:`MoRe` that logits at grid size are enough."""

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

    def count(self, labels: Tensor) -> BatchCounts:
        """Background and foreground pixels of labels ``(B, H, W)``."""
        return count_batch(*_background_and_foreground(labels, self.ignore_index))

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        counts: Optional[BatchCounts] = None,
        *,
        weight: Optional[Tensor] = None,
        ignore_index: Optional[int] = None,
    ) -> Tensor:
        """Weighted loss of ``(B, K+1, h, w)`` logits, ``(B, H, W)`` labels.

        A decode head gives its own ``ignore_index`` and the pixels' ``weight``; these and
        ``counts``: see :func:`balanced_cross_entropy`.
        """
        ignore_index = self.ignore_index if ignore_index is None else ignore_index
        return self.loss_weight * balanced_cross_entropy(
            logits, labels, ignore_index, weight, counts
        )
