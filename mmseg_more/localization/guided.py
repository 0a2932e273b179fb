"""Maps that come back to the size of a large image, along its edges.

He, Sun and Tang, "Guided Image Filtering" (TPAMI 2013), in the form of He and Sun, "Fast
Guided Filter" (2015): what is expensive is computed at the low size, and what is left at
the full size is one product for each pixel. ``C`` channels, ``h, w`` the low and ``H, W``
the full size.
"""

from typing import Iterator, NamedTuple, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

_STRIP_PIXELS = 2**19  # of the full size, worked on together


class GuidedFilter(NamedTuple):
    """Maps as linear functions of the colours around each pixel of the low size."""

    slopes: Tensor
    """``a``, change of each map by colour, float32 ``(C, 3, h, w)``."""
    offsets: Tensor
    """``b``, float32 ``(C, h, w)``."""


def fit_guided_filter(
    guide: Tensor, maps: Tensor, radius: int = 2, eps: float = 1e-3
) -> GuidedFilter:
    """The linear functions of colour that explain maps best, window by window.

    In the window ``k`` around each pixel, ``a_k = (S_k + eps)^-1 cov_k(I, p)`` and ``b_k =
    mean_k(p) - a_k mean_k(I)``, with ``S_k`` the covariance of the colours ``I``. The
    result is the mean over all windows that a pixel lies in; at the border windows are cut.

    Args:
        guide: Colours in [0, 1], ``(3, h, w)``.
        maps: ``(C, h, w)``, any range.
        radius: Of the windows, in pixels of the low size: ``2 radius + 1`` wide.
        eps: Variance of a colour, of range 1, that counts as an edge.
    """
    guide, maps = guide.float(), maps.float()
    rows, columns = torch.triu_indices(3, 3, device=guide.device)
    mean_guide = _box_mean(guide, radius)
    # of the pairs of colours (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)
    products = _box_mean(guide[rows] * guide[columns], radius)
    products -= mean_guide[rows] * mean_guide[columns]
    inverse = _inverse_symmetric(products, eps)
    slopes, offsets = [], []
    for one in maps:  # to hold the windows of one map at a time
        mean = _box_mean(one[None], radius)[0]
        covariance = _box_mean(guide * one, radius) - mean_guide * mean
        slope = torch.einsum('ijhw,jhw->ihw', inverse, covariance)
        offset = mean - (slope * mean_guide).sum(0)
        slopes.append(_box_mean(slope, radius))
        offsets.append(_box_mean(offset[None], radius)[0])
    return GuidedFilter(torch.stack(slopes), torch.stack(offsets))


def guided_strips(fitted: GuidedFilter, image: Tensor) -> Iterator[Tuple[slice, Tensor]]:
    """Maps at the full size, some rows at a time.

    Args:
        fitted: Of the image at the low size.
        image: The guide at the full size, uint8 ``(H, W, 3)``.

    Yields:
        Rows ``r`` and the maps there, float32 ``(C, r, W)`` on the device of ``fitted``.
    """
    channels = len(fitted.offsets)
    functions = torch.cat([fitted.slopes.flatten(0, 1), fitted.offsets])
    for rows, strip in enlarged_strips(functions, image.shape[:2]):
        colours = image[rows].to(strip.device).permute(2, 0, 1) / 255
        slopes = strip[: 3 * channels].unflatten(0, (channels, 3))
        yield rows, (slopes * colours).sum(1) + strip[3 * channels :]


def enlarged_strips(maps: Tensor, size: Sequence[int]) -> Iterator[Tuple[slice, Tensor]]:
    """Maps bilinearly at another size (align_corners False), some rows at a time.

    Args:
        maps: ``(C, h, w)``.
        size: ``(H, W)``.

    Yields:
        Rows ``r`` and the maps there, float32 ``(C, r, W)``.
    """
    height, width = int(size[0]), int(size[1])
    low = maps.shape[1]
    count = max(_STRIP_PIXELS // width, 1)
    for first in range(0, height, count):
        rows = slice(first, min(first + count, height))
        places = torch.arange(rows.start, rows.stop, device=maps.device)
        places = ((places + 0.5) * (low / height) - 0.5).clamp(0, low - 1)
        above = places.long()
        below = (above + 1).clamp_max(low - 1)
        share = (places - above)[:, None].to(maps.dtype)
        strip = torch.lerp(maps[:, above], maps[:, below], share)
        yield (
            rows,
            F.interpolate(strip[None], (rows.stop - rows.start, width), mode='bilinear')[0],
        )


def _box_mean(maps: Tensor, radius: int) -> Tensor:
    """Mean over the window around each pixel, as far as it lies inside."""
    for height, width in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        maps = F.avg_pool2d(
            maps[None],
            (height, width),
            stride=1,
            padding=(height // 2, width // 2),
            count_include_pad=False,
        )[0]
    return maps


def _inverse_symmetric(upper: Tensor, eps: float) -> Tensor:
    """Inverse of symmetric 3x3 matrices plus ``eps``, by cofactors.

    Args:
        upper: Entries (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2), ``(6, h, w)``.
        eps: Added to the diagonal.

    Returns:
        ``(3, 3, h, w)``.
    """
    a, b, c, d, e, f = upper
    a, d, f = a + eps, d + eps, f + eps
    cofactors = [
        d * f - e * e,
        c * e - b * f,
        b * e - c * d,
        a * f - c * c,
        b * c - a * e,
        a * d - b * b,
    ]
    determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2]
    first, second, third, fourth, fifth, sixth = (one / determinant for one in cofactors)
    return torch.stack(
        [
            torch.stack([first, second, third]),
            torch.stack([second, fourth, fifth]),
            torch.stack([third, fifth, sixth]),
        ]
    )
