"""Images and masks from files."""

from typing import Optional

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS

from ...image_files import decode_image


@TRANSFORMS.register_module()
class LoadAnyImage(BaseTransform):
    """Load an image file of any kind, by the policy of :mod:`mmseg_more.image_files`.

    Takes the place of ``LoadImageFromFile``. It gives the same for images of 8 bits
    without transparency; what differs is said there. Reads ``img_path``; sets ``img``, BGR
    ``(H, W, 3)``, ``img_shape`` and ``ori_shape``.

    Args:
        to_float32: Whether the pixels become float32; else they are uint8.
        backend_args: As in ``LoadImageFromFile``.

    Raises:
        ValueError: If the file does not decode as an image.
    """

    def __init__(
        self, to_float32: bool = False, backend_args: Optional[dict] = None
    ) -> None:
        self.to_float32 = to_float32
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Load ``img`` from ``img_path``."""
        path = results['img_path']
        image = decode_image(fileio.get(path, backend_args=self.backend_args))
        if image is None:
            raise ValueError(f'{path} does not decode as an image')
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadMask(LoadAnnotations):
    """MMSegmentation's ``LoadAnnotations``, which keeps a side of one pixel.

    That one squeezes the mask of an image of one row, one column or one pixel to fewer than
    two dimensions, on which every later transform fails. Takes the place of
    ``LoadAnnotations`` behind ``LoadImageFromFile``, with the same arguments; sets
    ``gt_seg_map``, uint8 (H, W).

    Raises:
        ValueError: If the mask is not of the size of its image.
    """

    def transform(self, results: dict) -> dict:
        """Load ``gt_seg_map`` from ``seg_map_path``."""
        results = super().transform(results)
        mask = results['gt_seg_map']
        size = tuple(results['ori_shape'][:2])
        if mask.ndim < 2 and mask.size == np.prod(size):
            mask = mask.reshape(size)
        if mask.shape != size:
            raise ValueError(
                f'{results["seg_map_path"]} has shape {mask.shape}, its image '
                f'{results.get("img_path")} {size}; a mask holds one index per pixel of '
                'its image'
            )
        results['gt_seg_map'] = mask
        return results
