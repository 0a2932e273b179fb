"""Masks from files."""

import numpy as np

from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS


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
