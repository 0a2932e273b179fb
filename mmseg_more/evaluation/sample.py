"""Reads what is evaluated from a data sample, and says what is missing."""

from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..models.structures import MAP_NAMES


class EvaluatedSample(NamedTuple):
    """One image, its sizes and labels checked."""

    truth: Tensor
    """True dense labels ``(H, W)``, 0 = background."""
    pred: Tensor
    """Predicted dense labels ``(H, W)``."""
    maps: Dict[str, Tensor]
    """The maps that are present, each ``(P, H, W)``, in a fixed order."""
    map_indices: Tensor
    """Classes of their P channels, int64 ``(P,)``; all K where the sample does not say."""
    gt_score: Tensor
    """Multi-hot image labels ``(K,)``."""
    pred_score: Tensor
    """Probabilities ``(K,)``."""


_REMEDY = {
    'gt_sem_seg': 'let the validation data set load masks (dict(type="LoadAnnotations") '
    'in its pipeline, before the sample is packed)',
    'gt_score': 'use an image-level data set of mmseg_more and pack its image labels',
    'pred_sem_seg': 'use a model that predicts it, as the segmentor "MoRe" does',
    'pred_score': 'use a model that predicts it, as the segmentor "MoRe" does',
}
_REMEDY_MAPS = (
    'let dict(type="LocalizationHook", maps=..., ms_scales=..., '
    'seg_scales=...) ask the segmentor "MoRe" for it'
)


def read_sample(sample: dict, num_classes: int, ignore_index: int = 255) -> EvaluatedSample:
    """Take one sample apart.

    Args:
        sample (dict): ``SegDataSample.to_dict()``, as MMEngine's evaluator
            gives it.
        num_classes (int): ``K`` of the data set.
        ignore_index (int): Label that the truth may hold besides 0..K.

    Raises:
        KeyError: A field is missing.
        ValueError: Sizes or labels do not fit each other or ``K``.
    """
    truth = _label_map(sample, 'gt_sem_seg')
    pred = _label_map(sample, 'pred_sem_seg')
    _check_shape(sample, 'pred_sem_seg', pred, tuple(truth.shape))
    _check_labels(sample, 'gt_sem_seg', truth, num_classes, ignore_index)
    _check_labels(sample, 'pred_sem_seg', pred, num_classes, None)

    indices = sample.get('map_indices')
    if indices is None:
        indices = torch.arange(num_classes)
    maps = {name: _pixels(sample, name) for name in MAP_NAMES if name in sample}
    for name, value in maps.items():
        _check_shape(sample, name, value, (len(indices), *truth.shape))
    scores = {name: read_field(sample, name) for name in ('gt_score', 'pred_score')}
    for name, value in scores.items():
        _check_shape(sample, name, value, (num_classes,))
    return EvaluatedSample(truth, pred, maps, indices, **scores)


def read_pixels(sample: dict, name: str, channels: int, size: Sequence[int]) -> Tensor:
    """The values ``(channels, H, W)`` of a field, their shape checked.

    Raises:
        KeyError: The field is missing.
        ValueError: It has another shape.
    """
    value = _pixels(sample, name)
    _check_shape(sample, name, value, (channels, *size))
    return value


def read_field(sample: dict, name: str) -> Any:
    """A field of a sample.

    Raises:
        KeyError: It is missing; says what would put it there.
    """
    if name not in sample:
        raise KeyError(
            f'"{name}" is missing on the data sample of '
            f'{_image(sample)}: {_REMEDY.get(name, _REMEDY_MAPS)}.'
        )
    return sample[name]


def _pixels(sample: dict, name: str) -> Tensor:
    return read_field(sample, name)['data']


def _label_map(sample: dict, name: str) -> Tensor:
    labels = _pixels(sample, name)  # (1, H, W)
    return labels.squeeze(0) if labels.ndim == 3 else labels


def _image(sample: dict) -> str:
    return str(sample.get('img_path', 'an image without img_path'))


def _check_shape(sample: dict, name: str, value: Tensor, expected: Tuple[int, ...]) -> None:
    if tuple(value.shape) != expected:
        raise ValueError(
            f'"{name}" of {_image(sample)} has the shape '
            f'{tuple(value.shape)}, expected {expected}: labels and maps are '
            'compared at the original size of the image (put '
            'LoadAnnotations after Resize in the pipeline), and K is the '
            'number of classes of the data set without background.'
        )


def _check_labels(
    sample: dict, name: str, value: Tensor, num_classes: int, ignore_index: Optional[int]
) -> None:
    wrong = (value < 0) | (value > num_classes)
    if ignore_index is not None:
        wrong &= value != ignore_index
    if wrong.any():
        raise ValueError(
            f'"{name}" of {_image(sample)} holds the labels '
            f'{value[wrong].unique().tolist()}, expected 0..{num_classes} for '
            f'a data set of {num_classes} classes and background'
            + ('.' if ignore_index is None else f' or {ignore_index} (ignore).')
        )
