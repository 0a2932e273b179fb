"""Data sets with image labels or masks of a network, and their transforms."""

from .coco14 import COCO14ImageLevelDataset
from .image_level_dataset import ImageLevelDataset
from .pseudo_label_dataset import PseudoLabelDataset
from .transforms import (
    LoadAnyImage,
    LoadCorrectedMask,
    LoadMask,
    PackImageLevelInputs,
    PILColorJitter,
    RandomCropWithMask,
    RandomRescale,
    RandomResizedCropWithMask,
)
from .voc import VOCImageLevelDataset

__all__ = [
    'COCO14ImageLevelDataset',
    'ImageLevelDataset',
    'LoadAnyImage',
    'LoadCorrectedMask',
    'LoadMask',
    'PILColorJitter',
    'PackImageLevelInputs',
    'PseudoLabelDataset',
    'RandomCropWithMask',
    'RandomRescale',
    'RandomResizedCropWithMask',
    'VOCImageLevelDataset',
]
