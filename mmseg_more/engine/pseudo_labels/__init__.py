"""Masks of whole data sets: `PseudoLabelHook`, the VOC export, and their parts."""

from .config import (
    SPLITS,
    evaluated_bkg,
    mask_dataloader,
    prepare_mask_run,
    use_pseudo_labels,
)
from .data import MaskImage, MaskLoader, check_labels, check_paths, list_images
from .folder import MANIFEST, MaskFolder, read_manifest
from .identity import (
    file_sha256,
    model_settings,
    type_name,
    weights_sha256,
    without_annotations,
)
from .recipe import CLASSES, SOURCES, MaskRecipe, make_recipe
from .run import MaskRun, soft_map, won_probability

__all__ = [
    'CLASSES',
    'MANIFEST',
    'MaskFolder',
    'MaskImage',
    'MaskLoader',
    'MaskRecipe',
    'MaskRun',
    'SOURCES',
    'SPLITS',
    'check_labels',
    'check_paths',
    'evaluated_bkg',
    'file_sha256',
    'list_images',
    'make_recipe',
    'mask_dataloader',
    'model_settings',
    'prepare_mask_run',
    'read_manifest',
    'soft_map',
    'type_name',
    'use_pseudo_labels',
    'weights_sha256',
    'without_annotations',
    'won_probability',
]
