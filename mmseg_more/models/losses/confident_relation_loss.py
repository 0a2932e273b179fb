"""Confident relation enhancement (CRE), MoRe section 3.3."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.registry import MODELS

from .decode_head import LossOfMoRe

_FLOOR = 1e-4
_LOG_MIN_DOUBLE = -745.0  # exp() of anything lower is 0 in float64


def confident_relation_loss(
    tokens: Tensor,
    patches: Tensor,
    labels: Tensor,
    image_labels: Tensor,
    temperature: float,
) -> Tensor:
    """Pull each present class token towards its confident patches.

    ``z = exp(q . p / tau)`` with ``q`` L2-normalised. For each present class
    ``-log(z / (sum_p z + 1e-4))``, averaged over the patches labelled with it
    (sum / (count + 1e-4)); summed over the present classes of an image; mean
    over the batch.

    Evaluated through log-sum-exp, so that neither the value overflows nor
    the gradient underflows for large patch tokens. Where every ``z`` of a class is
    exactly 0 in the precision of the input, the value is that of
    ``-log(1 / (1 + sum + 1e-4))``, as in the reference code.

    Args:
        tokens: Class tokens after GCR, ``(B, K, D)``.
        patches: Patch tokens ``(B, D, h, w)``, used detached and as they are.
        labels: Confident patch labels ``(B, h, w)``: 0 background, ``k + 1``,
            255 ignored.
        image_labels: Multi-hot ``(B, K)``.
        temperature: ``tau`` > 0.

    Returns:
        Scalar.
    """
    classes = tokens.shape[1]
    queries = F.normalize(tokens, dim=-1)
    # b batch, k class, d channel, n patch
    logits = (
        torch.einsum('bkd,bdn->bkn', queries, patches.detach().flatten(2)) / temperature
    )
    log_sum = logits.logsumexp(dim=-1, keepdim=True)
    # Constants are filled in on the device: a copy to a GPU would make the host wait.
    floor = torch.full_like(log_sum, math.log(_FLOOR))
    terms = torch.logaddexp(log_sum, floor) - logits
    with torch.no_grad():
        vanished = logits.exp().sum(dim=-1, keepdim=True) == 0
        constant = torch.full_like(terms, math.log1p(_FLOOR))
    # Vanished in float32: the value of the reference, the gradient that float64 has.
    alive = (log_sum.detach() > _LOG_MIN_DOUBLE).to(terms)
    terms = torch.where(vanished, constant + alive * (terms - terms.detach()), terms)
    ids = torch.arange(1, classes + 1, device=labels.device)
    member = labels.flatten(1)[:, None] == ids[None, :, None]  # (B, K, N)
    member = member & (image_labels > 0)[:, :, None]
    per_class = terms.masked_fill(~member, 0.0).sum(-1) / (member.sum(-1) + _FLOOR)
    return per_class.sum(dim=1).mean()


@MODELS.register_module()
class ConfidentRelationLoss(LossOfMoRe):
    """Module of :func:`confident_relation_loss`.

    Args:
        temperature: ``tau``; .5 for VOC, .1 for COCO. Defaults to 0.5.
        loss_weight: Factor of the loss. Defaults to 1.0.
    """

    reads = 'class tokens, patches and image labels'

    def __init__(self, temperature: float = 0.5, loss_weight: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature must be > 0, got {temperature}')
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(
        self, tokens: Tensor, patches: Tensor, labels: Tensor, image_labels: Tensor
    ) -> Tensor:
        """Weighted loss; arguments as :func:`confident_relation_loss`."""
        return self.loss_weight * confident_relation_loss(
            tokens, patches, labels, image_labels, self.temperature
        )
