"""From maps or logits of one image to a mask, with or without CRF.

``K`` foreground classes; masks hold dense labels: 0 background, ``k + 1`` for
class ``k``. ``classes`` are indices ``0..K-1`` of those that may appear: of the
image labels, or predicted.
"""

from typing import NamedTuple, Optional, Sequence, Union

import torch
from torch import Tensor

Classes = Union[Tensor, Sequence[int]]


class ClassProbabilities(NamedTuple):
    """What the dense CRF starts from: a channel per label that may appear."""

    probs: Tensor
    """float32 ``(1+P, H, W)`` in [0, 1], background first."""
    labels: Tensor
    """Dense label of each channel, int64 ``(1+P,)``; the first is 0."""


def map_probabilities(maps: Tensor, classes: Classes) -> ClassProbabilities:
    """Probabilities from normalised maps; background is 1 - their maximum.

    Args:
        maps: Normalised maps ``(K, H, W)`` in [0, 1].
        classes: Indices of the classes that may appear.

    Raises:
        ValueError: If a class is not one of the K.
    """
    index = _class_index(classes, len(maps), maps.device)
    present = maps[index].float()
    background = (
        1 - present.amax(dim=0, keepdim=True)
        if len(index)
        else torch.ones_like(maps[:1], dtype=torch.float32)
    )
    return ClassProbabilities(torch.cat([background, present]), _dense_labels(index))


def seg_probabilities(
    logits: Tensor, classes: Optional[Classes] = None
) -> ClassProbabilities:
    """Softmax over all labels, of which the allowed ones are kept.

    Args:
        logits: Segmentation logits ``(K+1, H, W)``, background first.
        classes: Indices of the classes that may appear; None for all.

    Raises:
        ValueError: If a class is not one of the K.
    """
    num_classes = len(logits) - 1
    index = _class_index(
        range(num_classes) if classes is None else classes, num_classes, logits.device
    )
    labels = _dense_labels(index)
    return ClassProbabilities(logits.float().softmax(dim=0)[labels], labels)


def probabilities_to_mask(probabilities: ClassProbabilities) -> Tensor:
    """Dense labels ``(H, W)``, uint8, of the largest probability."""
    best = probabilities.probs.argmax(dim=0)
    return probabilities.labels[best].to(torch.uint8)


def threshold_mask(maps: Tensor, classes: Classes, bkg: float) -> Tensor:
    """Dense labels ``(H, W)``, uint8: ``argmax + 1``, 0 up to ``bkg``.

    Args:
        maps: Normalised maps ``(K, H, W)`` in [0, 1].
        classes: Indices of the classes that may appear.
        bkg: Background threshold.

    Raises:
        ValueError: If a class is not one of the K.
    """
    index = _class_index(classes, len(maps), maps.device)
    if not len(index):
        return torch.zeros_like(maps[0], dtype=torch.uint8)
    value, best = maps[index].max(dim=0)
    return (index + 1)[best].masked_fill(value <= bkg, 0).to(torch.uint8)


def _class_index(classes: Classes, num_classes: int, device: torch.device) -> Tensor:
    index = torch.as_tensor(
        classes if isinstance(classes, Tensor) else list(classes),
        dtype=torch.int64,
        device=device,
    )
    if index.numel() and not 0 <= index.min() <= index.max() < num_classes:
        raise ValueError(
            f'classes must be indices 0..{num_classes - 1}, got {index.tolist()}'
        )
    return index


def _dense_labels(index: Tensor) -> Tensor:
    return torch.cat([index.new_zeros(1), index + 1])
