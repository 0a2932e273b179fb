"""Transforms of images with image labels."""

from .corrected_masks import (
    LoadCorrectedMask,
    RandomCropWithMask,
    RandomResizedCropWithMask,
    with_corrected_masks,
)
from .formatting import PackImageLevelInputs
from .loading import LoadAnyImage, LoadMask
from .processing import PILColorJitter, RandomRescale

__all__ = [
    'LoadAnyImage',
    'LoadCorrectedMask',
    'LoadMask',
    'PILColorJitter',
    'PackImageLevelInputs',
    'RandomCropWithMask',
    'RandomRescale',
    'RandomResizedCropWithMask',
    'with_corrected_masks',
]
