"""Corrected masks along with their images through a training pipeline."""

import copy
from functools import partial
from typing import Any, Callable, List, Mapping, Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.datasets.transforms import RandomCrop, RandomResizedCrop

from mmseg.registry import TRANSFORMS

from ...localization.pseudo_label import IGNORE_INDEX
from ..mask_file import read_corrected_mask

# of mmpretrain, whose transforms know no masks: those that leave each pixel where it is
_IN_PLACE = frozenset(
    (
        'AutoContrast',
        'Brightness',
        'ColorJitter',
        'ColorTransform',
        'Contrast',
        'Cutout',
        'Equalize',
        'GaussianBlur',
        'Invert',
        'Lighting',
        'Posterize',
        'RandomErasing',
        'Sharpness',
        'Solarize',
        'SolarizeAdd',
    )
)


@TRANSFORMS.register_module()
class LoadCorrectedMask(BaseTransform):
    """Load the corrected mask of an image that has one.

    :class:`ImageLevelDataset` puts it behind the loader of the image where it has a
    ``mask_file``. Reads ``corrected_mask``, a path; sets ``gt_seg_map``, uint8 ``(H, W)``,
    and names it in ``seg_fields``, so that later transforms take it along.

    Raises:
        ValueError: If the mask is not of the size of its image, or has a label that is no
            class.
    """

    def transform(self, results: dict) -> dict:
        """Load ``gt_seg_map`` from ``corrected_mask``; nothing where there is none."""
        if 'corrected_mask' not in results:
            return results
        mask = read_corrected_mask(results['corrected_mask'], results['num_classes'])
        size = tuple(results['img'].shape[:2])
        if mask.shape != size:
            raise ValueError(
                f'{results["corrected_mask"]} has shape {mask.shape}, its image '
                f'{results.get("img_path")} {size}'
            )
        results['gt_seg_map'] = mask
        results['seg_fields'] = [*results.get('seg_fields', ()), 'gt_seg_map']
        return results


@TRANSFORMS.register_module()
class RandomResizedCropWithMask(RandomResizedCrop):
    """mmpretrain's ``RandomResizedCrop``, which takes ``gt_seg_map`` along if there is one.

    The mask is resized to the nearest pixel. Arguments, results for the image and random
    numbers are the same.
    """

    def transform(self, results: dict) -> dict:
        """Crop and resize ``img`` and ``gt_seg_map``."""
        of_mask = copy.copy(self)
        of_mask.interpolation = 'nearest'
        return _crop_both(
            super().transform, partial(RandomResizedCrop.transform, of_mask), results
        )


@TRANSFORMS.register_module()
class RandomCropWithMask(RandomCrop):
    """mmpretrain's ``RandomCrop``, which takes ``gt_seg_map`` along if there is one.

    The mask is padded with 255, not labelled. Arguments, results for the image and random
    numbers are the same.
    """

    def transform(self, results: dict) -> dict:
        """Pad and crop ``img`` and ``gt_seg_map``."""
        of_mask = copy.copy(self)
        of_mask.pad_val, of_mask.padding_mode = IGNORE_INDEX, 'constant'
        return _crop_both(
            super().transform, partial(RandomCrop.transform, of_mask), results
        )


def _crop_both(
    crop_image: Callable[[dict], dict], crop_mask: Callable[[dict], dict], results: dict
) -> dict:
    """Crop ``img``, and ``gt_seg_map`` if there is one, by the same random numbers."""
    state = np.random.get_state()
    results = crop_image(results)
    if 'gt_seg_map' in results:
        np.random.set_state(state)  # a mask of the same size draws the same numbers
        results['gt_seg_map'] = crop_mask(dict(img=results['gt_seg_map']))['img']
    return results


_WITH_MASK = {RandomResizedCrop: RandomResizedCropWithMask, RandomCrop: RandomCropWithMask}


def with_corrected_masks(pipeline: Sequence[Any]) -> List[Any]:
    """A training pipeline that loads corrected masks, and takes them along.

    The masks are loaded behind the image. mmpretrain's ``RandomResizedCrop`` and
    ``RandomCrop``, which know no masks, give way to those of this module. MMCV's and
    MMSegmentation's transforms take masks along by themselves.

    Args:
        pipeline: Configs of the transforms, that of ``PackImageLevelInputs`` among them.

    Raises:
        ValueError: If a transform would move the pixels of the image but not those of the
            mask, or nothing loads the image or packs the mask.
    """
    names = [_kind(step).__name__ for step in pipeline]
    loaders = [index for index, name in enumerate(names) if name.startswith('Load')]
    if not loaders or 'PackImageLevelInputs' not in names:
        raise ValueError(
            '`mask_file` needs a pipeline that begins with LoadImageFromFile or '
            f'LoadAnyImage and ends with PackImageLevelInputs; got {", ".join(names)}'
        )
    behind = loaders[0] + 1
    steps = _take_along(pipeline)
    return [*steps[:behind], dict(type='LoadCorrectedMask'), *steps[behind:]]


def _take_along(step: Any) -> Any:
    """A step, or a list of them, in which the mask moves as the image does."""
    if isinstance(step, (list, tuple)):
        return [_take_along(one) for one in step]
    kind = _kind(step)
    if isinstance(step, Mapping) and kind in _WITH_MASK:
        return {**step, 'type': _WITH_MASK[kind].__name__}
    if kind.__module__.startswith('mmpretrain.') and kind.__name__ not in _IN_PLACE:
        raise ValueError(
            f'`mask_file`: {kind.__name__} of mmpretrain moves the pixels of an image but '
            'not those of its mask; use RandomResizedCrop or RandomCrop of mmpretrain, or '
            'a transform of MMSegmentation'
        )
    if isinstance(step, Mapping) and 'transforms' in step:
        return {**step, 'transforms': _take_along(step['transforms'])}
    return step


def _kind(step: Any) -> type:
    """The class of a transform that a config names, or that is built already."""
    if not isinstance(step, Mapping):
        return type(step)
    kind = step['type']
    found = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(found, type):
        raise ValueError(f'`mask_file`: the pipeline names no transform {kind!r}')
    return found
