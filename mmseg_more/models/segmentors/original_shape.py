"""From the network's input back to the image as it was."""

from typing import Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.structures import SegDataSample

from ...localization import resize_map

# Logits at the original size that are worked on together, in bytes
_CHUNK_BYTES = 64 * 2**20


def _padding(sample: SegDataSample) -> Tuple[int, int, int, int]:
    """Left, right, top and bottom, in pixels of the network's input."""
    meta = sample.metainfo
    left, right, top, bottom = meta.get(
        'img_padding_size', meta.get('padding_size', (0, 0, 0, 0))
    )
    return left, right, top, bottom


def to_original(
    values: Tensor,
    sample: SegDataSample,
    mode: str = 'bilinear',
    input_size: Optional[Sequence[int]] = None,
) -> Tensor:
    """Bring ``(C, h, w)`` to the image's original shape.

    As MMSegmentation does with segmentation logits: padding is cut off, the
    flip undone, the rest resized to ``ori_shape``.

    Args:
        values: Maps, logits or pixels at the size of the network's input.
        sample: With ``ori_shape`` (without: that of the input) and what the pipeline noted
            of padding and flip.
        mode: Interpolation, ``bilinear`` (align_corners False) or
            ``nearest``.
        input_size: ``(H, W)`` of the network's input, if ``values`` are of another size, as
            that of the patch grid. They go straight to the original size, unless padding is
            in the way.

    Returns:
        ``(C, H0, W0)``.
    """
    meta, (left, right, top, bottom) = sample.metainfo, _padding(sample)
    if input_size is not None and (any(_padding(sample)) or 'ori_shape' not in meta):
        values = _resize(values, input_size, mode)
    height, width = values.shape[-2:]
    values = values[:, top : height - bottom, left : width - right]
    if meta.get('flip'):
        values = values.flip(-1 if meta['flip_direction'] == 'horizontal' else -2)
    return _resize(values, meta.get('ori_shape', values.shape[-2:])[:2], mode)


def _resize(values: Tensor, size: Sequence[int], mode: str) -> Tensor:
    if not len(values):  # which PyTorch does not resize
        return values.new_empty(0, *size)
    if mode == 'bilinear':
        return resize_map(values[None], size)[0]
    return F.interpolate(values[None], size=tuple(size), mode=mode)[0]


def largest_at_original(
    logits: Sequence[Tensor], sample: SegDataSample, input_size: Sequence[int]
) -> Tensor:
    """The maximum of logits of several grids, taken at the original size.

    Args:
        logits: At least one of ``(C, h, w)``, of any ``h`` and ``w``.
        sample: As in :func:`to_original`.
        input_size: Likewise.

    Returns:
        ``(C, H0, W0)``.
    """
    largest = to_original(logits[0], sample, input_size=input_size)
    for values in logits[1:]:
        values = to_original(values, sample, input_size=input_size)
        torch.maximum(largest, values, out=largest)
    return largest


def labels_at_original(
    logits: Tensor, sample: SegDataSample, input_size: Sequence[int]
) -> Tensor:
    """``to_original(logits, ...).argmax(0)``, without holding all channels at that size.

    Args:
        logits: ``(C, h, w)``.
        sample: As in :func:`to_original`.
        input_size: Likewise.

    Returns:
        int64 ``(1, H0, W0)``.
    """
    best = to_original(logits[:1], sample, input_size=input_size)
    labels = torch.zeros_like(best, dtype=torch.long)
    count = max(_CHUNK_BYTES // (best.element_size() * max(best.numel(), 1)), 1)
    for first in range(1, len(logits), count):
        chunk = to_original(logits[first : first + count], sample, input_size=input_size)
        for channel, values in enumerate(chunk.split(1), first):
            # the first of equal ones stays, as in argmax
            labels.masked_fill_(values > best, channel)
            torch.maximum(best, values, out=best)
    return labels
