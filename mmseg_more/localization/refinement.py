"""Pixel-adaptive refinement (PAR) of localization maps.

PAR was introduced by AFA (Ru et al., CVPR 2022, section 3.3): a mask is
averaged, again and again, over neighbours that look alike. MoRe uses it for the
labels of its segmentation head (section 3.4).
"""

from typing import List, NamedTuple, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import resize_map
from .pseudo_label import IGNORE_INDEX
from .weighted_sums import weighted_sums

_WIDTH = 0.3  # w1 of AFA: the width of both Gaussians, in standard deviations
_IMAGES_AT_ONCE = 16  # whose neighbours take 460 MB at 224 x 224 pixels
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


def _offsets(dilations: Sequence[int], device: torch.device) -> Tuple[Tensor, Tensor]:
    """Rows and columns from a pixel to its neighbours, int64 ``(M, )`` each.

    Dilation by dilation, row by row.
    """
    ring = torch.arange(8, device=device)
    ring = ring + (ring >= 4)  # the middle of the 3 x 3 cells is the pixel
    return (
        torch.cat([(ring // 3 - 1) * d for d in dilations]),
        torch.cat([(ring % 3 - 1) * d for d in dilations]),
    )


@torch.no_grad()
def pixel_affinity(
    images: Tensor, dilations: Sequence[int] = (1, 2, 4, 8, 12, 24)
) -> Tensor:
    """Affinity of every pixel to its ``M = 8 * len(dilations)`` neighbours.

    ``softmax_n(mean_c -((|I_n - I| / (std + 1e-8)) / 0.3)^2)
    + 0.01 softmax_n(-((d_n / (std_d + 1e-8)) / 0.3)^2)`` where the standard
    deviations are unbiased and taken over the neighbours, and ``d_n`` is the
    distance in pixels. Borders are replicated. No gradient.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        dilations: Distances in pixels.

    Returns:
        ``(B, M, H, W)``, neighbours dilation by dilation, row by row.
    """
    neighbours = _neighbours(images, dilations)
    contrast = (_contrast_at_once if images.is_cuda else _contrast_in_turns)(
        images, neighbours
    )
    affinity = contrast.neg_().softmax(dim=0)
    rows, columns = _offsets(dilations, images.device)
    distance = (rows.square() + columns.square()).to(images).sqrt()
    distance = ((distance / (distance.std() + 1e-8)) / _WIDTH).square()
    position = (-distance).softmax(dim=0)
    affinity.add_(_POSITION_WEIGHT * position[:, None, None, None])
    return affinity.transpose(0, 1)


def _neighbours(images: Tensor, dilations: Sequence[int]) -> List[Tensor]:
    """Views of a padded copy: the images moved to each neighbour, M ``(B, 3, H, W)``."""
    margin, (height, width) = max(dilations), images.shape[-2:]
    padded = F.pad(images, [margin] * 4, mode='replicate')
    return [
        padded[..., top : top + height, left : left + width]
        for d in dilations
        for top in (margin - d, margin, margin + d)
        for left in (margin - d, margin, margin + d)
        if (top, left) != (margin, margin)
    ]


def _contrast_in_turns(images: Tensor, neighbours: Sequence[Tensor]) -> Tensor:
    """``mean_c ((I_n - I) / (std + 1e-8) / 0.3)^2``, ``(M, B, H, W)``.

    One neighbour at a time, into buffers that stay in a CPU's cache.
    """
    mean, spread = torch.zeros_like(images), torch.zeros_like(images)
    for neighbour in neighbours:
        mean += neighbour
    mean /= len(neighbours)
    difference = torch.empty_like(images)
    for neighbour in neighbours:
        torch.sub(neighbour, mean, out=difference)
        spread.addcmul_(difference, difference)
    # 0.3 standard deviations of each channel
    spread.div_(len(neighbours) - 1).sqrt_().add_(1e-8).mul_(_WIDTH)
    # neighbours first in memory, for propagate()
    contrast = images.new_empty(len(neighbours), len(images), *images.shape[-2:])
    for neighbour, mean_square in zip(neighbours, contrast):
        torch.sub(neighbour, images, out=difference)
        torch.mean(difference.div_(spread).square_(), dim=1, out=mean_square)
    return contrast


def _contrast_at_once(images: Tensor, neighbours: Sequence[Tensor]) -> Tensor:
    """As :func:`_contrast_in_turns` in few calls, for a GPU.

    All neighbours of some images are in memory at once.
    """
    parts = []
    for first in range(0, len(images), _IMAGES_AT_ONCE):
        some = slice(first, first + _IMAGES_AT_ONCE)
        stacked = torch.stack([neighbour[some] for neighbour in neighbours])
        spread = stacked.std(dim=0).add_(1e-8).mul_(_WIDTH)
        parts.append(stacked.sub_(images[some]).div_(spread).square_().mean(dim=2))
    return torch.cat(parts, dim=1)


def _neighbour_pixels(
    batch_size: int, size: Sequence[int], dilations: Sequence[int], device: torch.device
) -> Tensor:
    """Number of each pixel's neighbours, int32 ``(B*H*W, M)``.

    Pixels are numbered over the batch, those outside are replaced by the border's.
    """
    height, width = size
    ys, xs, first = (
        torch.arange(n, device=device, dtype=torch.int32)[:, None]
        for n in (height, width, batch_size)
    )
    rows, columns = (o.int() for o in _offsets(dilations, device))
    rows = (ys + rows).clamp_(0, height - 1) * width
    columns = (xs + columns).clamp_(0, width - 1)
    pixels = rows[:, None] + columns  # (H, W, M)
    return (first * (height * width) + pixels.flatten()).view(-1, pixels.shape[-1])


def propagate(
    masks: Tensor, affinity: Tensor, dilations: Sequence[int], num_iters: int
) -> Tensor:
    """Average masks over the neighbours, ``num_iters`` times.

    Args:
        masks: ``(B, C, H, W)``.
        affinity: From :func:`pixel_affinity`, ``(B, M, H, W)``.
        dilations: The dilations of ``affinity``.
        num_iters: Number of rounds.

    Returns:
        Masks of the same shape.
    """
    pixels = _neighbour_pixels(len(masks), masks.shape[-2:], dilations, masks.device)
    weights = affinity.transpose(0, 1).flatten(1).t().contiguous()
    values = masks.flatten(2).transpose(1, 2).flatten(0, 1).contiguous()
    for _ in range(num_iters):
        values = weighted_sums(values, pixels, weights)
    return values.view(len(masks), -1, masks.shape[1]).transpose(1, 2).reshape(masks.shape)


def pixel_adaptive_refinement(
    images: Tensor, masks: Tensor, options: PAROptions = PAROptions()
) -> Tensor:
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
        masks, size=images.shape[-2:], mode='bilinear', align_corners=True
    )
    affinity = pixel_affinity(images, options.dilations)
    return propagate(masks, affinity, options.dilations, options.num_iters)


def refine_labels(
    images: Tensor,
    maps: Tensor,
    image_labels: Tensor,
    high: float,
    low: float,
    options: PAROptions = PAROptions(),
) -> Tensor:
    """Refined dense labels for the segmentation loss.

    A constant background channel (``high`` in one run, ``low`` in the
    other) is put before the maps of the present classes; softmax and PAR
    follow. A pixel takes the label of the ``high`` run; it is ignored where that is
    background, and background where both runs say so. One affinity serves
    both runs, all images of the batch are refined together.

    All channels are refined, those of absent classes too, although they cannot win:
    give it the channels of the present classes alone (:func:`present_classes`).

    Args:
        images: ``(B, 3, H, W)`` in [0, 1], truncated to 8 bit before.
        maps: Normalised maps ``(B, C, h, w)``, a channel per class.
        image_labels: Multi-hot ``(B, C)``: which of them are present.
        high: Background score of the run that finds classes.
        low: Background score of the run that finds background.
        options: PAR's settings.

    Returns:
        int64 ``(B, H, W)``: 0 background, ``c + 1`` for channel ``c``, 255 ignored.
    """
    height, width = images.shape[-2:]
    half = max(1, int(options.scale * height)), max(1, int(options.scale * width))
    images = resize_map(images, half)
    absent = F.pad(image_labels <= 0, (1, 0))[:, :, None, None]  # (B, 1+C, 1, 1)

    runs = []
    for score in (high, low):
        run = torch.cat(
            [torch.full_like(images[:, :1], score), resize_map(maps, half)], dim=1
        )
        runs.append(run.masked_fill(absent, -torch.inf).softmax(dim=1))
    affinity = pixel_affinity(images, options.dilations)
    refined = propagate(
        torch.cat(runs, dim=1), affinity, options.dilations, options.num_iters
    )

    # .max(dim=1).indices: argmax(dim=1) is 7 times slower
    by_high, by_low = (
        resize_map(run, (height, width)).masked_fill(absent, -1.0).max(dim=1).indices
        for run in refined.chunk(2, dim=1)
    )
    result = by_high.masked_fill(by_high == 0, IGNORE_INDEX)
    return result.masked_fill((by_high == 0) & (by_low == 0), 0)
