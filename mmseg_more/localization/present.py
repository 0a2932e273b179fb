"""The classes that are present in the images of a batch, as a few channels."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from .pseudo_label import IGNORE_INDEX


class PresentClasses(NamedTuple):
    """Which class each of C channels shows, in each image of a batch.

    C is the largest number of classes of an image, at least 1; an image with fewer
    fills its last channels with classes that are absent.
    """

    indices: Tensor
    """Classes from 0, ascending among the present ones, int64 ``(B, C)``."""
    real: Tensor
    """1 where the class is present, 0 in filled channels, float32 ``(B, C)``."""

    def select(self, maps: Tensor) -> Tensor:
        """Channels ``(B, C, h, w)`` of maps ``(B, K, h, w)`` of all classes."""
        index = self.indices[:, :, None, None].expand(-1, -1, *maps.shape[-2:])
        return maps.gather(1, index)

    def of_image(self, number: int) -> Tensor:
        """Classes of one image of the batch, ascending, int64 ``(P,)``."""
        return self.indices[number][self.real[number] > 0]

    def name_labels(self, labels: Tensor) -> Tensor:
        """Dense labels ``(B, h, w)``: number of a channel (from 1) -> of its class.

        0 (background) and 255 (ignored) stay.
        """
        special = (labels == 0) | (labels == IGNORE_INDEX)
        channels = (labels - 1).masked_fill(special, 0).flatten(1)
        classes = self.indices.gather(1, channels).view_as(labels) + 1
        return torch.where(special, labels, classes)


def present_classes(
    image_labels: Tensor, max_classes: Optional[int] = None
) -> PresentClasses:
    """Channels for the classes of multi-hot image labels ``(B, K)``.

    Args:
        image_labels: Multi-hot, ``(B, K)``.
        max_classes: Upper limit for the classes of an image, where it is known on
            the host. None reads it from ``image_labels``: the host then waits
            for a GPU.
    """
    present = image_labels > 0
    if max_classes is None:
        max_classes = int(present.sum(dim=1).max())
    count = min(max(max_classes, 1), present.shape[1])
    order = present.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    indices = order[:, :count]
    return PresentClasses(indices, present.gather(1, indices).float())


def predicted_classes(scores: Tensor, segmentation: Tensor, min_patches: int = 5) -> Tensor:
    """Classes of images without labels.

    Those with a logit above 0; for an image that has none, those that the segmentation
    shows on ``min_patches`` at least.

    Args:
        scores: Image logits ``(B, K)``.
        segmentation: Logits ``(B, K+1, h, w)``, background first.
        min_patches: Patches that a class must win where no score speaks for one.

    Returns:
        bool ``(B, K)``.
    """
    classes = torch.arange(1, segmentation.shape[1], device=segmentation.device)
    labels = segmentation.argmax(dim=1).flatten(1)
    shown = (labels[:, None] == classes[:, None]).sum(-1) >= min_patches
    present = scores > 0
    return torch.where(present.any(dim=1, keepdim=True), present, shown)
