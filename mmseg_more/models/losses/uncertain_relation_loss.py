"""Uncertain relation enhancement (URE), MoRe section 3.3."""

from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.registry import MODELS

from ...localization.pseudo_label import IGNORE_INDEX
from .decode_head import LossOfMoRe

_KERNEL, _MARGIN = 6, 3
_MIN_MEAN = 1.2  # least mean relation of a window that is selected


class UncertainTokens(NamedTuple):
    """Positions of the tokens that URE acts on, each int64 ``(M, )``."""

    image: Tensor
    """Index of the image in the batch."""
    row: Tensor
    """Row in the patch grid."""
    column: Tensor
    """Column in the patch grid."""


def select_uncertain_tokens(
    labels: Tensor,
    max_tokens: int = 8,
    centered: bool = False,
    generator: Optional[torch.Generator] = None,
) -> UncertainTokens:
    """Draw uncertain tokens whose surroundings are mostly class.

    The relation map is 1 where the label is ignored, 2 where it is a class, 0
    for background. Interior cells are rows 3..h-4 and columns 3..w-4. An
    uncertain interior cell, with interior coordinates (i, j), is selected if
    the mean relation of the 6x6 window with top-left corner (i, j) **in full
    coordinates** is at least 1.2; the token is the one at full (i, j). The
    token is therefore offset by the margin from the uncertain cell, as in
    the reference code. ``centered=True`` corrects that: the token is the
    uncertain cell itself and the window reaches from 3 before it to 2 after.

    More than ``max_tokens``: a random subset is kept. Otherwise
    ``(max_tokens - n) // 4`` random class cells of the interior are added (any
    interior cell if there are fewer). Each image, in order, draws exactly one
    ``torch.randperm`` from the CPU generator.

    The draws depend on the labels and come from the CPU, by definition. The labels
    therefore go to the CPU: a GPU makes the host wait here, once a batch. The loop
    over the images is there for the draws.

    Args:
        labels: ``(B, h, w)``: 0 background, ``k + 1``, 255 uncertain.
        max_tokens: Upper limit per image.
        centered: The corrected variant, see above.
        generator: CPU generator; ``None`` for the default one.

    Returns:
        Positions, on the device of the labels; none for grids too small for an
        interior.
    """
    chosen = [torch.zeros(0, 3, dtype=torch.long)]
    height, width = (size - 2 * _MARGIN for size in labels.shape[-2:])
    if height > 0 and width > 0:
        host_labels = labels.cpu()
        ignored = host_labels == IGNORE_INDEX
        relation = ((host_labels > 0) & ~ignored) * 2 + ignored.long()
        inner = relation[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        mean = F.avg_pool2d(relation.float(), _KERNEL, stride=1)
        selected = (inner == 1) & (mean[:, :height, :width] >= _MIN_MEAN)
        for index in range(len(labels)):
            cells = selected[index].nonzero()
            if len(cells) > max_tokens:
                order = torch.randperm(len(cells), generator=generator)
                cells = cells[order[:max_tokens]]
            else:
                wanted = (max_tokens - len(cells)) // 4
                extra = (inner[index] == 2).nonzero()
                if len(extra) < wanted:
                    extra = torch.ones_like(inner[index]).nonzero()
                order = torch.randperm(len(extra), generator=generator)
                cells = torch.cat([cells, extra[order[:wanted]]])
            chosen.append(F.pad(cells, (1, 0), value=index))
    positions = torch.cat(chosen)
    if centered:
        positions[:, 1:] += _MARGIN
    # asynchronous: nothing waits for a copy in this direction
    return UncertainTokens(*positions.to(labels.device, non_blocking=True).unbind(dim=1))


def uncertain_relation_loss(
    tokens: Tensor, patches: Tensor, image_labels: Tensor, positions: UncertainTokens
) -> Tensor:
    """Pull uncertain patches to present class tokens, push them from absent.

    With ``c = |cos(u, q_k)|``, per token
    ``.5 (1 - sum_present c / (n_present + 1)) + .5 sum_absent c / (n_absent + 1)``;
    mean over the tokens of the batch.

    Args:
        tokens: Class tokens after GCR, ``(B, K, D)``, used detached.
        patches: Patch tokens ``(B, D, h, w)``.
        image_labels: Multi-hot ``(B, K)``.
        positions: The tokens, from :func:`select_uncertain_tokens`.

    Returns:
        Scalar; 0 (with a zero gradient) without tokens.
    """
    if len(positions.image) == 0:
        return patches.sum() * 0
    chosen = patches[positions.image, :, positions.row, positions.column]
    chosen = F.normalize(chosen, dim=-1)  # (M, D)
    queries = F.normalize(tokens.detach(), dim=-1)[positions.image]
    # m token, k class, d channel
    cosine = torch.einsum('md,mkd->mk', chosen, queries).abs()
    present = (image_labels > 0).to(cosine)[positions.image]
    absent = 1 - present
    pull = (cosine * present).sum(1) / (present.sum(1) + 1)
    push = (cosine * absent).sum(1) / (absent.sum(1) + 1)
    return (0.5 * (1 - pull) + 0.5 * push).mean()


@MODELS.register_module()
class UncertainRelationLoss(LossOfMoRe):
    """Module of :func:`uncertain_relation_loss`, selection included.

    Args:
        max_tokens: Tokens per image. Defaults to 8.
        centered: Whether the selected token is the uncertain cell itself
            instead of the one three rows and columns before it (the reference
            code's). Defaults to False.
        loss_weight: Factor of the loss. Defaults to 1.0.
    """

    reads = 'class tokens, patches and image labels'

    def __init__(
        self, max_tokens: int = 8, centered: bool = False, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        if max_tokens < 1:
            raise ValueError(f'max_tokens must be >= 1, got {max_tokens}')
        self.max_tokens = max_tokens
        self.centered = centered
        self.loss_weight = loss_weight

    def forward(
        self, tokens: Tensor, patches: Tensor, labels: Tensor, image_labels: Tensor
    ) -> Tensor:
        """Weighted loss of tokens drawn from the patch ``labels (B, h, w)``.

        The rest as :func:`uncertain_relation_loss`.
        """
        positions = select_uncertain_tokens(labels, self.max_tokens, self.centered)
        return self.loss_weight * uncertain_relation_loss(
            tokens, patches, image_labels, positions
        )
