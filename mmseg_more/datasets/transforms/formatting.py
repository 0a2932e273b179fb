"""Images and image labels as the segmentor takes them."""

from typing import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData

from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample

META_KEYS = (
    'img_path',
    'img_id',
    'seg_map_path',
    'ori_shape',
    'img_shape',
    'pad_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'reduce_zero_label',
)


@TRANSFORMS.register_module()
class PackImageLevelInputs(BaseTransform):
    """Pack an image and its image labels as the segmentor takes them.

    Gives ``inputs``, an uint8 tensor (3, H, W) in the channel order it was loaded in, and
    ``data_samples``, a ``SegDataSample`` with

    * ``gt_label``: int64 indices (n,) of the classes present, 0..K-1, without background;
    * ``gt_score``: float32 multi-hot (K,), all zero if there is none;
    * ``gt_sem_seg``: int64 (1, H0, W0), 0 = background, k + 1 = class k, 255 = ignored,
      if a mask was loaded;
    * ``corrected_sem_seg``: the same of a corrected mask (``mask_file`` of the data set),
      which is a label of the training, (1, H, W) at the size of ``inputs``;
    * those of ``meta_keys`` that the pipeline set, shapes as (H, W).

    Images without labels, as in inference, carry none.

    Args:
        meta_keys: Names of the meta information to keep.
        ignore_index: The mask value that stands for no class.
    """

    def __init__(
        self, meta_keys: Sequence[str] = META_KEYS, ignore_index: int = 255
    ) -> None:
        self.meta_keys = tuple(meta_keys)
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Pack ``img``, ``gt_label`` with ``num_classes``, and ``gt_seg_map``.

        Raises:
            ValueError: If a mask holds a value that is no class, or is not of the
                image's size.
        """
        image = results['img']
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f'{results.get("img_path", "the image")} has shape '
                f'{image.shape} instead of (H, W, 3); load it with '
                "`color_type='color'`"
            )
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        sample = SegDataSample()
        if 'gt_label' in results:
            label = torch.tensor(results['gt_label'], dtype=torch.int64)
            score = torch.zeros(results['num_classes'])
            score[label] = 1
            sample.set_field(label, 'gt_label')
            sample.set_field(score, 'gt_score')
        if 'gt_seg_map' in results:
            mask = results['gt_seg_map']
            if mask.ndim < 2:  # LoadAnnotations squeezes a side of one pixel away
                mask = mask.reshape(self._squeezed_shape(mask, results))
            if 'corrected_mask' in results:
                self._check_moved_along(mask, results)
                field = 'corrected_sem_seg'
            else:
                self._check_mask(mask, results)
                field = 'gt_sem_seg'
            labels = torch.from_numpy(mask[None].astype(np.int64))
            sample.set_field(PixelData(data=labels), field)
        meta = {key: results[key] for key in self.meta_keys if key in results}
        for key in ('ori_shape', 'img_shape', 'pad_shape'):
            if key in meta:  # mmpretrain's transforms append the channels
                meta[key] = tuple(meta[key][:2])
        sample.set_metainfo(meta)
        return dict(inputs=inputs, data_samples=sample)

    @staticmethod
    def _squeezed_shape(mask: np.ndarray, results: dict) -> tuple:
        for key in ('ori_shape', 'img_shape'):
            shape = tuple(results.get(key, ())[:2])
            if sorted(shape) == [1, mask.size]:
                return shape
        return mask.shape

    @staticmethod
    def _check_moved_along(mask: np.ndarray, results: dict) -> None:
        """Raise ValueError if a corrected mask has another size than the image by now."""
        size = results['img'].shape[:2]
        if mask.shape != size:
            raise ValueError(
                f'{results["corrected_mask"]} has shape {mask.shape} at the end of the '
                f'pipeline, its image {results.get("img_path")} {size}: a transform must '
                'move `gt_seg_map` as it moves `img`'
            )

    def _check_mask(self, mask: np.ndarray, results: dict) -> None:
        path = results.get('seg_map_path', 'the mask')
        sizes = {
            tuple(results[key][:2]) for key in ('ori_shape', 'img_shape') if key in results
        }
        if mask.ndim != 2 or sizes and mask.shape not in sizes:
            raise ValueError(
                f'{path} has shape {mask.shape}, its image '
                f'{results.get("img_path")} {results.get("ori_shape")}; a '
                'mask holds one index per pixel of its image'
            )
        if 'num_classes' in results:
            present = np.unique(mask)
            wrong = present[
                (present > results['num_classes']) & (present != self.ignore_index)
            ]
            if wrong.size:
                raise ValueError(
                    f'{path} holds the values {wrong.tolist()}; 0 is background, '
                    f'1..{results["num_classes"]} are the classes and '
                    f'{self.ignore_index} is ignored: correct the mask or `classes`'
                )

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(meta_keys={self.meta_keys}, '
            f'ignore_index={self.ignore_index})'
        )
