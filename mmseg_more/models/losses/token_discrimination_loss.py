"""Class token discrimination, MoRe section 3.2 (``mct``)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.registry import MODELS

from .decode_head import LossOfMoRe


def token_discrimination_loss(tokens: Tensor, temperature: float = 0.07) -> Tensor:
    """Keep the class tokens of an image apart.

    Cross entropy of ``cos(q_i, q_j) / tau`` with the diagonal as target; the
    class axis is dim 1.

    Args:
        tokens: Class tokens after GCR, ``(B, K, D)``.
        temperature: ``tau`` > 0.

    Returns:
        Scalar mean over images and tokens.
    """
    queries = F.normalize(tokens, dim=-1)
    logits = queries @ queries.transpose(1, 2) / temperature  # (B, K, K)
    target = torch.arange(tokens.shape[1], device=tokens.device)
    return F.cross_entropy(logits, target.expand(len(tokens), -1))


@MODELS.register_module()
class TokenDiscriminationLoss(LossOfMoRe):
    """Module of :func:`token_discrimination_loss`.

    Args:
        temperature: ``tau``. Defaults to 0.07.
        loss_weight: Factor of the loss. Defaults to 1.0.
    """

    reads = 'class tokens'

    def __init__(self, temperature: float = 0.07, loss_weight: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature must be > 0, got {temperature}')
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Weighted loss of class tokens ``(B, K, D)``."""
        return self.loss_weight * token_discrimination_loss(tokens, self.temperature)
