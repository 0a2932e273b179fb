"""From the network's input back to the image as it was."""

from typing import Tuple

import torch.nn.functional as F
from torch import Tensor

from mmseg.structures import SegDataSample


def _padding(sample: SegDataSample) -> Tuple[int, int, int, int]:
    """Left, right, top and bottom, in pixels of the network's input."""
    meta = sample.metainfo
    return tuple(meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0))))


def is_padded(sample: SegDataSample) -> bool:
    """Whether the network's input is larger than its image."""
    return any(_padding(sample))


def to_original(values: Tensor, sample: SegDataSample, mode: str = 'bilinear') -> Tensor:
    """Bring ``(C, H, W)`` to the image's original shape.

    As MMSegmentation does with segmentation logits: padding is cut off, the
    flip undone, the rest resized to ``ori_shape``.

    Args:
        values: Maps, logits or pixels at the size of the network's input.
        sample: With ``ori_shape`` and what the pipeline noted of padding and
            flip.
        mode: Interpolation, ``bilinear`` (align_corners False) or
            ``nearest``.

    Returns:
        ``(C, H0, W0)``.
    """
    left, right, top, bottom = _padding(sample)
    height, width = values.shape[-2:]
    values = values[:, top : height - bottom, left : width - right]
    meta = sample.metainfo
    if meta.get('flip'):
        values = values.flip(-1 if meta['flip_direction'] == 'horizontal' else -2)
    size = tuple(meta['ori_shape'][:2])
    if values.shape[-2:] == size:
        return values
    return F.interpolate(values[None], size=size, mode=mode)[0]
