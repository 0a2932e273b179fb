"""From maps or logits of one image to probabilities, and to a mask without CRF.

``K`` foreground classes; masks hold dense labels: 0 background, ``k + 1`` for class
``k``. ``indices`` in ``0..K-1`` name the classes that may appear: those of the image
labels, or predicted.
"""

from typing import NamedTuple, Optional, Sequence, Union

import torch
from torch import Tensor

from ..localization import move_threshold

Indices = Union[Tensor, Sequence[int]]


class ClassProbabilities(NamedTuple):
    """A channel for each label that may appear: what the dense CRF starts from."""

    probs: Tensor
    """float32 ``(1+P, H, W)`` in [0, 1], background first."""
    labels: Tensor
    """Dense label of each channel, int64 ``(1+P,)``; the first is 0."""

    def without_weak(self, epsilon: float) -> 'ClassProbabilities':
        """Without the classes that are weak by :func:`strong_channels`."""
        strong = strong_channels(self.probs, epsilon)
        if strong.all():
            return self
        return ClassProbabilities(self.probs[strong], self.labels[strong])


def strong_channels(probs: Tensor, epsilon: float) -> Tensor:
    """Which channels a CRF needs: bool ``(C,)``.

    The background, those that reach ``epsilon`` somewhere in the image, and those that are
    the largest of a pixel, as one of many classes can be with less.

    Args:
        probs: Probabilities ``(C, H, W)``, the background first.
        epsilon: A probability.
    """
    strong = probs.flatten(1).amax(1) >= epsilon
    strong[0] = True
    highest, winner = probs.max(0)
    if highest.min() < epsilon:
        strong[winner.unique()] = True
    return strong


def map_probabilities(
    maps: Tensor,
    indices: Indices,
    channels: Optional[Tensor] = None,
    threshold: Union[float, Sequence[float], None] = None,
) -> ClassProbabilities:
    """Probabilities from normalised maps; background is 1 - their maximum.

    Left as they are, maps lose to the background where they are below .5, whatever the
    threshold is that suits them. With a ``threshold`` they are bent before, so that it
    comes to lie at .5 (:func:`~mmseg_more.localization.move_threshold`).

    Args:
        maps: Normalised maps ``(K, H, W)`` in [0, 1], or those of some classes.
        indices: Of the classes that may appear.
        channels: Index of the class that each channel of ``maps`` shows, ``(P,)``.
            None: they are all K in their order.
        threshold: Background threshold of the maps in [0, 1), one for all or one for
            each of the K classes. None: the maps as they are, the published form.

    Raises:
        ValueError: If ``maps`` does not show one of the classes.
    """
    if channels is None:
        index = _class_index(indices, len(maps), maps.device)
        present = maps[index]
    else:
        shown = channels.tolist()
        index = torch.as_tensor(indices, dtype=torch.int64, device=maps.device)
        missing = set(index.tolist()) - set(shown)
        if missing:
            raise ValueError(f'there are maps of the classes {shown}, not of {missing}')
        present = maps[[shown.index(i) for i in index.tolist()]]
    present = present.float()
    if threshold is not None:
        thresholds = torch.as_tensor(threshold, dtype=torch.float64)
        present = move_threshold(
            present, thresholds[index.cpu()] if thresholds.ndim else thresholds
        )
    background = (
        1 - present.amax(dim=0, keepdim=True)
        if len(index)
        else maps.new_ones((1, *maps.shape[1:]), dtype=torch.float32)
    )
    return ClassProbabilities(torch.cat([background, present]), _dense_labels(index))


def seg_probabilities(
    logits: Tensor, indices: Optional[Indices] = None
) -> ClassProbabilities:
    """Softmax over all labels, of which the allowed ones are kept.

    Args:
        logits: Segmentation logits ``(K+1, H, W)``, background first. Of a model with a
            single channel, ``(1, H, W)``, that of the one class: its sigmoid.
        indices: Of the classes that may appear; None for all.

    Raises:
        ValueError: If a class is not one of the K.
    """
    if len(logits) == 1:
        logits = torch.cat([torch.zeros_like(logits), logits])
    num_classes = len(logits) - 1
    index = _class_index(
        range(num_classes) if indices is None else indices, num_classes, logits.device
    )
    labels = _dense_labels(index)
    probs = logits.float().softmax(dim=0)
    return ClassProbabilities(probs if indices is None else probs[labels], labels)


def probabilities_to_mask(
    probabilities: ClassProbabilities, bkg: Optional[float] = None
) -> Tensor:
    """Dense labels ``(H, W)``, uint8, of the largest probability.

    Args:
        probabilities: Of one image.
        bkg: Threshold in [0, 1): the best class counts where it is above it, and the
            rest is background. None: the background is a label as all others.
    """
    probs, labels = probabilities
    if bkg is None:
        return labels[probs.argmax(dim=0)].to(torch.uint8)
    if len(labels) == 1:
        return torch.zeros_like(probs[0], dtype=torch.uint8)
    value, best = probs[1:].max(dim=0)
    return labels[1:][best].masked_fill(value <= bkg, 0).to(torch.uint8)


def won_probability(mask: Tensor, probabilities: ClassProbabilities) -> Tensor:
    """Mean probability of each channel over the pixels of its label.

    Args:
        mask: Dense labels ``(H, W)``.
        probabilities: ``C`` channels.

    Returns:
        ``(C,)``; NaN for a label that the mask does not show.
    """
    means = []
    for channel, label in zip(*probabilities):
        won = mask == label
        means.append((channel * won).sum() / won.sum())
    return torch.stack(means)


def _class_index(indices: Indices, num_classes: int, device: torch.device) -> Tensor:
    index = torch.as_tensor(
        indices if isinstance(indices, Tensor) else list(indices),
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
