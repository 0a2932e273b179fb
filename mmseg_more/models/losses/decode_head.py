"""What a decode head of MMSegmentation asks of its losses, and which cannot serve one.

A head reads ``loss_name``, the key of the loss in the log, and calls
``loss(logits, labels, weight=..., ignore_index=...)``, where ``weight`` ``(B, H, W)`` comes
from a sampler of pixels, if the head has one.
"""

from typing import Any, Optional

from torch import Tensor, nn


class LossOfMoRe(nn.Module):
    """A loss that reads what only the segmentor MoRe has: no ``loss_decode``."""

    reads: str
    """What no decode head has."""

    # not a property, which PyTorch reads from every module that it traces
    def __getattr__(self, name: str) -> Any:
        """What :class:`nn.Module` has by that name.

        Raises:
            TypeError: For ``loss_name``, which a head asks for.
        """
        if name == 'loss_name':
            raise TypeError(
                f'{type(self).__name__} is a loss of the segmentor MoRe (model.losses) and '
                f'cannot be the loss_decode of a head: it reads {self.reads}, which a '
                'decode head does not have'
            )
        return super().__getattr__(name)


def refuse_pixel_weights(loss: nn.Module, weight: Optional[Tensor]) -> None:
    """Raise for the weights of a sampler, where a loss compares pixels with each other.

    Raises:
        ValueError: If there are weights.
    """
    if weight is not None:
        raise ValueError(
            f'{type(loss).__name__} compares pixels with each other and takes no weights '
            'of single ones: leave out the `sampler` of its head'
        )
