"""What a pass of the network over images and their flips is read for."""

import math
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ... import localization as L
from ..structures import Tokens

# Larger tensors are given back to the system by glibc's allocator and paged in anew at
# every layer, which costs a CPU some percent of a pass.
_CPU_PASS_BYTES = 32 * 2**20
# Maps of image size that are worked on together; more would leave the cache.
_CPU_MAP_BYTES = 4 * 2**20


class SharedPasses(NamedTuple):
    """What one set of multi-scale passes over a batch gives."""

    maps: Dict[str, Tensor]
    """Normalised maps ``(B, K, H, W)`` in [0, 1], by the names of the plan."""
    scores: Tensor
    """Image logits ``(B, K)`` of the images as they are."""
    segmentation: Tensor
    """Segmentation logits ``(B, K+1, h, w)`` of the images as they are."""
    segmentation_ms: Optional[Tensor]
    """Logits of image and flip summed, maximum over the scales,
    ``(B, K+1, H, W)``; None unless asked for."""


def classify(classifier: nn.Conv2d, patches: Tensor) -> Tensor:
    """Logits of patches, never in half precision: thresholds are finer."""
    with torch.autocast(patches.device.type, enabled=False):
        return classifier(patches.to(classifier.weight.dtype)).float()


def fastest_chunk(images: Tensor, hidden_bytes: int) -> int:
    """Images per pass without a gradient where memory is no matter.

    All on a GPU; on a CPU what keeps a hidden layer small, in parts of equal size.

    Args:
        images: ``(B, 3, H, W)``.
        hidden_bytes: Size of the widest activation for one image.
    """
    if images.device.type != 'cpu':
        return len(images)
    passes = math.ceil(len(images) / max(_CPU_PASS_BYTES // hidden_bytes, 1))
    return math.ceil(len(images) / passes)


def _classes_at_once(total: Tensor) -> int:
    """All on a GPU; on a CPU what the cache can hold."""
    batch_size, classes, height, width = total.shape
    if total.device.type != 'cpu':
        return classes
    return max(_CPU_MAP_BYTES // (4 * batch_size * height * width), 1)


def add_merged(totals: Sequence[Tensor], maps: Tensor, flipped: Tensor, relu: bool) -> None:
    """Add the maps of one scale, merged with those of the flips, to sums.

    Args:
        totals: Sums ``(B, K, H, W)``, changed in place.
        maps: Maps of the images, ``(B, K, h, w)``.
        flipped: Maps of the flipped images, likewise.
        relu: Whether negative values count as 0.
    """
    count, size = _classes_at_once(totals[0]), totals[0].shape[-2:]
    for image, flip, *sums in zip(
        *(t.split(count, dim=1) for t in (maps, flipped, *totals))
    ):
        merged = L.merge_flip(image, flip, size)
        if relu:
            merged = merged.relu_()
        for part in sums:
            part += merged


def normalize_in_place(total: Tensor) -> Tensor:
    """``L.normalize_maps`` of ``(B, K, H, W)`` that nothing else needs."""
    for part in total.split(_classes_at_once(total), dim=1):
        part.copy_(L.normalize_maps(part))
    return total


class SegmentationPasses:
    """Collects segmentation and image logits from passes that maps need too."""

    def __init__(
        self, model: nn.Module, size: Tuple[int, int], scales: Tuple[float, ...]
    ) -> None:
        self.model, self.size, self.scales = model, size, scales
        self.scores: Optional[Tensor] = None
        self.logits: Optional[Tensor] = None
        self.merged: Optional[Tensor] = None

    def read(self, tokens: Tokens, scale: float) -> Dict[str, Tensor]:
        """What is wanted of the tokens of one pass."""
        found = {}
        if scale == 1:
            found['scores'] = self.model._image_logits(tokens)[0]
        if scale == 1 or scale in self.scales:
            found['segmentation'] = self.model.decode_head(tokens.patches).float()
        return found

    def add(self, found: Dict[str, Tensor], scale: float) -> None:
        """Take it, read from images and flips (2B)."""
        if 'segmentation' not in found:
            return
        image, flip = found['segmentation'].chunk(2)
        if scale == 1:
            self.scores, self.logits = found['scores'].chunk(2)[0], image
        if scale in self.scales:
            logits = L.resize_map(image + flip.flip(-1), self.size)
            self.merged = (
                logits if self.merged is None else torch.maximum(self.merged, logits)
            )
