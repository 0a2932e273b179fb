"""Patch affinity loss of ToCo (Ru et al., CVPR 2023, section 3.2), ``ptc``."""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.registry import MODELS

from ...localization.pseudo_label import IGNORE_INDEX, affinity_pairs
from .batch_counts import BatchCounts, count_batch
from .decode_head import refuse_pixel_weights

MAX_PATCHES = 128 * 128
"""Of an image: each of its matrices of pairs has a gigabyte then."""


def patch_affinity_loss(
    patches: Tensor, pairs: Tensor, counts: Optional[BatchCounts] = None
) -> Tensor:
    """Pull patches of one label together, push those of two apart.

    With ``c = |cos(p_i, p_j)|``, over the whole batch:
    ``.5 (1 - sum_pos c / (n_pos + 1)) + .5 sum_neg c / (n_neg + 1)``.

    Args:
        patches: Patch tokens ``(B, D, h, w)``.
        pairs: ``(B, N, N)``: 1 same label, 0 different, 255 ignored; see
            :func:`mmseg_more.localization.affinity_pairs`.
        counts: ``n_pos`` and ``n_neg`` of all processes, of which the result is then this
            one's part (:meth:`BatchCounts.average`). None: of this batch.

    Returns:
        Scalar; in [0, 1] if the counts are those of the batch.
    """
    features = F.normalize(patches.flatten(2), dim=1)  # (B, D, N)
    cosine = (features.transpose(1, 2) @ features).abs()
    positive, negative = pairs == 1, pairs == 0
    counts = count_batch(positive, negative) if counts is None else counts
    pull = counts.average(cosine.masked_fill(~positive, 0.0).sum(), 0, 1)
    push = counts.average(cosine.masked_fill(~negative, 0.0).sum(), 1, 1)
    return 0.5 * (1 - pull) + 0.5 * push


@MODELS.register_module()
class PatchAffinityLoss(nn.Module):
    """Module of :func:`patch_affinity_loss`.

    In a stock segmentor the loss of :class:`~mmseg_more.models.PatchAffinityHead`, an
    auxiliary head.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        loss_name: Its key in the log of a decode head, to begin with 'loss'. Defaults to
            'loss_ptc'.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = 'loss_ptc') -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def count(self, labels: Tensor) -> BatchCounts:
        """Positive and negative pairs of labels ``(B, h, w)``."""
        pairs = affinity_pairs(labels)
        return count_batch(pairs == 1, pairs == 0)

    def forward(
        self,
        patches: Tensor,
        labels: Tensor,
        counts: Optional[BatchCounts] = None,
        *,
        weight: Optional[Tensor] = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> Tensor:
        """Weighted loss.

        Args:
            patches: ``(B, D, h, w)``.
            labels: int64 ``(B, h, w)``; 255 is ignored.
            counts: As in :func:`patch_affinity_loss`.
            weight: None: single pixels have no weights here.
            ignore_index: Label that is ignored as well.

        Raises:
            ValueError: For weights, and for more than ``MAX_PATCHES`` patches.
        """
        refuse_pixel_weights(self, weight)
        height, width = patches.shape[-2:]
        if height * width > MAX_PATCHES:
            raise ValueError(
                f'PatchAffinityLoss compares all pairs of positions, and {height}x{width} '
                f'are more than {MAX_PATCHES}: it is for feature maps, not for logits at '
                "image size. Use auxiliary_head=dict(type='PatchAffinityHead'), with the "
                '`in_index` of a coarser map'
            )
        labels = labels.masked_fill(labels == ignore_index, IGNORE_INDEX)
        pairs = affinity_pairs(labels)
        return self.loss_weight * patch_affinity_loss(patches, pairs, counts)
