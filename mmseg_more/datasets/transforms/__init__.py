"""Transforms of images with image labels."""

from .formatting import PackImageLevelInputs
from .loading import LoadAnyImage, LoadMask
from .processing import PILColorJitter, RandomRescale

__all__ = [
    'LoadAnyImage',
    'LoadMask',
    'PILColorJitter',
    'PackImageLevelInputs',
    'RandomRescale',
]
