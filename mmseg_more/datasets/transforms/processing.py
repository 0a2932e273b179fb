"""Augmentations of the authors that MMCV and mmpretrain have in another form."""

from typing import Tuple

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmpretrain.datasets.transforms import ColorJitter
from PIL import Image, ImageEnhance

from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PILColorJitter(ColorJitter):
    """Colour jitter as torchvision does it on PIL images.

    Takes a BGR uint8 image. The arguments and the random numbers are those of
    mmpretrain's ``ColorJitter``; that one fails on every negative hue shift with
    NumPy 2, which no longer wraps -25 into an uint8.

    Args:
        brightness, contrast, saturation: Factors are drawn from [max(0, 1 - x), 1 + x].
        hue: The shift is drawn from [-hue, hue], in turns of the colour circle, <= 0.5.
    """

    def transform(self, results: dict) -> dict:
        """Change ``img``."""
        order, brightness, contrast, saturation, hue = self._rand_params()
        image = Image.fromarray(mmcv.bgr2rgb(results['img']))
        for index in order:
            if index == 0 and brightness is not None:
                image = ImageEnhance.Brightness(image).enhance(brightness)
            elif index == 1 and contrast is not None:
                image = ImageEnhance.Contrast(image).enhance(contrast)
            elif index == 2 and saturation is not None:
                image = ImageEnhance.Color(image).enhance(saturation)
            elif index == 3 and hue is not None:
                image = _shift_hue(image, hue)
        results['img'] = mmcv.rgb2bgr(np.asarray(image))
        return results


def _shift_hue(image: Image.Image, turns: float) -> Image.Image:
    hsv = np.array(image.convert('HSV'))
    hsv[..., 0] += np.uint8(int(turns * 255) % 256)  # wraps around the circle
    return Image.merge('HSV', [Image.fromarray(hsv[..., i]) for i in range(3)]).convert(
        'RGB'
    )


@TRANSFORMS.register_module()
class RandomRescale(BaseTransform):
    """Scale both sides of the image by one random factor.

    MMCV's ``RandomResize`` scales a fixed size instead of the image's own.

    Args:
        ratio_range: Range of the factor.
        interpolation: As in ``mmcv.imresize``.
    """

    def __init__(
        self, ratio_range: Tuple[float, float], interpolation: str = 'bilinear'
    ) -> None:
        if not 0 < ratio_range[0] <= ratio_range[1]:
            raise ValueError(
                f'`ratio_range` must be (low, high) with 0 < low <= high, got {ratio_range}'
            )
        self.ratio_range = (ratio_range[0], ratio_range[1])
        self.interpolation = interpolation

    @cache_randomness
    def _random_ratio(self) -> float:
        return np.random.uniform(*self.ratio_range)

    def transform(self, results: dict) -> dict:
        """Resize ``img`` and masks, set ``img_shape`` and ``scale_factor`` (w, h)."""
        ratio = self._random_ratio()
        height, width = results['img'].shape[:2]
        size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        results['img'] = mmcv.imresize(
            results['img'], size, interpolation=self.interpolation
        )
        for field in results.get('seg_fields', ()):
            results[field] = mmcv.imresize(results[field], size, interpolation='nearest')
        results['img_shape'] = results['img'].shape[:2]
        results['scale_factor'] = (size[0] / width, size[1] / height)
        return results

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(ratio_range={self.ratio_range}, '
            f"interpolation='{self.interpolation}')"
        )
