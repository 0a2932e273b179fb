"""Pixel-adaptive refinement (PAR) of localization maps.

PAR was introduced by AFA (Ru et al., CVPR 2022, section 3.3): a mask is
averaged, again and again, over neighbours that look alike. MoRe uses it for the
labels of its segmentation head (section 3.4).
"""
from typing import NamedTuple, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import resize_map
from .pseudo_label import IGNORE_INDEX

_RING = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
_WIDTH = 0.3  # w1 of AFA: the width of both Gaussians, in standard deviations
_POSITION_WEIGHT = 0.01  # w2 of AFA: share of the distance term


class PAROptions(NamedTuple):
    """How far and how often PAR looks around."""

    dilations: Tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    """Distances of the eight neighbours, in pixels of the resized image."""
    num_iters: int = 10
    """How often the masks are averaged."""
    scale: float = 0.5
    """Size at which PAR runs, as a part of the image size (only in
    :func:`refine_labels`)."""


def _offsets(dilations: Sequence[int]) -> Tuple[Tuple[int, int], ...]:
    return tuple((dy * d, dx * d) for d in dilations for dy, dx in _RING)


def _shifted(padded: Tensor, offset: Tuple[int, int], margin: int,
             size: Tuple[int, int]) -> Tensor:
    """View of ``padded`` that shows each pixel's neighbour at ``offset``."""
    top, left = margin + offset[0], margin + offset[1]
    return padded[..., top:top + size[0], left:left + size[1]]


def pixel_affinity(images: Tensor,
                   dilations: Sequence[int] = (1, 2, 4, 8, 12, 24)) -> Tensor:
    """Affinity of every pixel to its ``M = 8 * len(dilations)`` neighbours.

    ``softmax_n(mean_c -((|I_n - I| / (std + 1e-8)) / 0.3)^2)
    + 0.01 softmax_n(-((d_n / (std_d + 1e-8)) / 0.3)^2)`` where the standard
    deviations are unbiased and taken over the neighbours, and ``d_n`` is the
    distance in pixels. Borders are replicated.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        dilations: Distances in pixels.

    Returns:
        ``(B, M, H, W)``, neighbours dilation by dilation, row by row.
    """
    margin, size = max(dilations), images.shape[-2:]
    padded = F.pad(images, [margin] * 4, mode='replicate')
    offsets = _offsets(dilations)
    neighbours = torch.stack(
        [_shifted(padded, offset, margin, size) for offset in offsets], dim=2)
    # the unbiased Tensor.std, which is 5 times slower along this dimension
    mean = neighbours.mean(dim=2, keepdim=True)
    variance = (neighbours - mean).square_().sum(dim=2, keepdim=True)
    std = variance.div_(len(offsets) - 1).sqrt_()  # (B, 3, 1, H, W)
    contrast = neighbours.sub_(images[:, :, None]).abs_()
    contrast = contrast.div_(std + 1e-8).div_(_WIDTH).square_()
    affinity = (-contrast.mean(dim=1)).softmax(dim=1)  # (B, M, H, W)
    distance = images.new_tensor(offsets).square().sum(dim=1).sqrt()
    distance = ((distance / (distance.std() + 1e-8)) / _WIDTH).square()
    position = (-distance).softmax(dim=0)
    return affinity.add_(_POSITION_WEIGHT * position[None, :, None, None])


def propagate(masks: Tensor, affinity: Tensor, dilations: Sequence[int],
              num_iters: int) -> Tensor:
    """Average masks over the neighbours, ``num_iters`` times.

    Args:
        masks: ``(B, C, H, W)``.
        affinity: From :func:`pixel_affinity`, ``(B, M, H, W)``.
        dilations: The dilations of ``affinity``.
        num_iters: Number of rounds.

    Returns:
        Masks of the same shape.
    """
    margin, size = max(dilations), masks.shape[-2:]
    offsets = _offsets(dilations)
    weights = affinity[:, :, None].unbind(dim=1)  # M x (B, 1, H, W)
    for _ in range(num_iters):
        padded = F.pad(masks, [margin] * 4, mode='replicate')
        masks = torch.zeros_like(masks)
        # One neighbour at a time: no M-fold copy of the masks.
        for weight, offset in zip(weights, offsets):
            masks.addcmul_(weight, _shifted(padded, offset, margin, size))
    return masks


def pixel_adaptive_refinement(
        images: Tensor,
        masks: Tensor,
        options: PAROptions = PAROptions()) -> Tensor:
    """PAR: refine masks by the image (``options.scale`` is not used).

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        masks: ``(B, C, h, w)``, resized to ``(H, W)`` bilinearly with
            align_corners True.
        options: Dilations and number of rounds.

    Returns:
        Refined masks ``(B, C, H, W)``.
    """
    masks = F.interpolate(
        masks, size=images.shape[-2:], mode='bilinear', align_corners=True)
    affinity = pixel_affinity(images, options.dilations)
    return propagate(masks, affinity, options.dilations, options.num_iters)


def _present_channels(maps: Tensor, image_labels: Tensor
                      ) -> Tuple[Tensor, Tensor, Tensor]:
    """Gather the maps of the present classes, padded over the batch.

    Returns:
        maps ``(B, C, H, W)``, class ids (from 1) int64 ``(B, C)``, and which
        channels are real, bool ``(B, C)``; ``C`` is the largest number of
        classes of an image, at least 1.
    """
    present = image_labels > 0
    count = max(int(present.sum(dim=1).max()), 1)
    order = present.to(torch.uint8).argsort(
        dim=1, descending=True, stable=True)[:, :count]
    index = order[:, :, None, None].expand(-1, -1, *maps.shape[-2:])
    return maps.gather(1, index), order + 1, present.gather(1, order)


def refine_labels(images: Tensor,
                  maps: Tensor,
                  image_labels: Tensor,
                  high: float,
                  low: float,
                  options: PAROptions = PAROptions()) -> Tensor:
    """Refined dense labels for the segmentation loss.

    A constant background channel (``high`` in one run, ``low`` in the
    other) is put before the maps of the present classes; softmax and PAR
    follow. A pixel takes the label of the ``high`` run; it is ignored where that is
    background, and background where both runs say so. One affinity serves
    both runs, all images of the batch are refined together.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1], truncated to 8 bit before.
        maps: Normalised maps ``(B, K, H, W)``.
        image_labels: Multi-hot ``(B, K)``.
        high: Background score of the run that finds classes.
        low: Background score of the run that finds background.
        options: PAR's settings.

    Returns:
        int64 ``(B, H, W)``: 0 background, ``k + 1``, 255 ignored.
    """
    size = images.shape[-2:]
    half = tuple(max(1, int(options.scale * s)) for s in size)
    images = resize_map(images, half)
    maps, class_ids, real = _present_channels(maps, image_labels)
    background = torch.zeros_like(class_ids[:, :1])
    class_ids = torch.cat([background, class_ids], dim=1)  # (B, 1+C)
    absent = ~torch.cat([background == 0, real], dim=1)[:, :, None, None]

    runs = []
    for score in (high, low):
        run = torch.cat([torch.full_like(images[:, :1], score),
                         resize_map(maps, half)], dim=1)
        runs.append(run.masked_fill(absent, -torch.inf).softmax(dim=1))
    affinity = pixel_affinity(images, options.dilations)
    refined = propagate(
        torch.cat(runs, dim=1), affinity, options.dilations, options.num_iters)

    labels = []
    for run in refined.chunk(2, dim=1):
        run = resize_map(run, size).masked_fill(absent, -1.)
        best = run.max(dim=1).indices  # argmax(dim=1) is 7 times slower
        labels.append(
            class_ids.gather(1, best.flatten(1)).view(-1, *size))
    by_high, by_low = labels
    result = by_high.masked_fill(by_high == 0, IGNORE_INDEX)
    return result.masked_fill((by_high == 0) & (by_low == 0), 0)
