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
    'seg_scales=...) ask the segmentor "MoRe" for it (not under test-time augmentation)'
)


def read_sample(sample: dict, num_classes: int, ignore_index: int = 255) -> EvaluatedSample:
    """Take one sample apart.

    Args:
        sample: ``SegDataSample.to_dict()``, as MMEngine's evaluator
            gives it.
        num_classes: ``K`` of the data set.
        ignore_index: Label that the truth may hold besides 0..K.

    Raises:
        KeyError: A field is missing.
        ValueError: Sizes or labels do not fit each other or ``K``.
    """
    truth = read_truth(sample, num_classes + 1, ignore_index)
    pred = read_prediction(sample, num_classes + 1, truth.shape)
    maps, indices = read_maps(sample, num_classes, truth.shape)
    gt_score, pred_score = (
        read_scores(sample, name, num_classes) for name in ('gt_score', 'pred_score')
    )
    return EvaluatedSample(truth, pred, maps, indices, gt_score, pred_score)


def read_truth(sample: dict, num_labels: int, ignore_index: int = 255) -> Tensor:
    """The true labels ``(H, W)``, each in ``[0, num_labels)`` or ``ignore_index``.

    Raises:
        KeyError: The field is missing.
        ValueError: There are other labels.
    """
    truth = _label_map(sample, 'gt_sem_seg')
    _check_labels(sample, 'gt_sem_seg', truth, num_labels, ignore_index)
    return truth


def read_prediction(sample: dict, num_labels: int, size: Sequence[int]) -> Tensor:
    """The predicted labels ``(H, W)``, each in ``[0, num_labels)``.

    Raises:
        KeyError: The field is missing.
        ValueError: There are other labels, or it has another size.
    """
    pred = _label_map(sample, 'pred_sem_seg')
    _check_shape(sample, 'pred_sem_seg', pred, tuple(size))
    _check_labels(sample, 'pred_sem_seg', pred, num_labels, None)
    return pred


def read_maps(
    sample: dict,
    num_classes: int,
    size: Sequence[int],
    names: Optional[Sequence[str]] = None,
) -> Tuple[Dict[str, Tensor], Tensor]:
    """Localization maps, and the classes of their channels.

    Args:
        sample: As in :func:`read_sample`.
        num_classes: ``K`` of the data set.
        size: ``(H, W)`` of the truth.
        names: Which maps; None: those of ``MAP_NAMES`` that are present.

    Returns:
        The maps, each ``(P, H, W)``, by their names in a fixed order, and the P classes,
        int64.

    Raises:
        KeyError: A map of ``names`` is missing.
        ValueError: One has another shape.
    """
    indices = read_indices(sample, num_classes)
    if names is None:
        names = [name for name in MAP_NAMES if name in sample]
    maps = {name: read_pixels(sample, name, len(indices), size) for name in names}
    return maps, indices


def read_scores(sample: dict, name: str, num_classes: int) -> Tensor:
    """The values ``(K,)`` of ``gt_score`` or ``pred_score``.

    Raises:
        KeyError: The field is missing.
        ValueError: It has another shape.
    """
    value = read_field(sample, name)
    _check_shape(sample, name, value, (num_classes,))
    return value


def read_indices(sample: dict, num_classes: int) -> Tensor:
    """Classes of the channels of the maps, int64 ``(P,)``; all K unless the sample says."""
    indices = sample.get('map_indices')
    return torch.arange(num_classes) if indices is None else indices


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
            f'"{name}" is missing on the data sample of {_image(sample)}: {remedy(name)}.'
        )
    return sample[name]


def remedy(name: str) -> str:
    """What would put a field on the data samples."""
    return _REMEDY.get(name, _REMEDY_MAPS)


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
    sample: dict, name: str, value: Tensor, num_labels: int, ignore_index: Optional[int]
) -> None:
    wrong = (value < 0) | (value >= num_labels)
    if ignore_index is not None:
        wrong &= value != ignore_index
    if wrong.any():
        raise ValueError(
            f'"{name}" of {_image(sample)} holds the labels '
            f'{value[wrong].unique().tolist()}, expected 0..{num_labels - 1}, the '
            'indices of the classes of the data set'
            + ('.' if ignore_index is None else f', or {ignore_index} (ignore).')
        )
