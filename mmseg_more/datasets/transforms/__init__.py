"""Transforms of images with image labels."""

from .formatting import PackImageLevelInputs
from .loading import LoadMask
from .processing import PILColorJitter, RandomRescale

__all__ = ['LoadMask', 'PILColorJitter', 'PackImageLevelInputs', 'RandomRescale']
