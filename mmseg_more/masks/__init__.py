"""Masks of whole data sets: `PseudoLabelHook`, the VOC export, and their parts."""

from .config import (
    SPLITS,
    evaluated_bkg,
    mask_dataloader,
    prepare_mask_run,
    use_pseudo_labels,
)
from .dense_crf import (
    CLASS_EPSILON,
    CRFMask,
    DenseCRFOptions,
    dense_crf,
    dense_crf_batch,
    dense_crf_mask,
)
from .folder import MANIFEST, MaskFolder, read_manifest
from .hook import PseudoLabelHook
from .identity import (
    file_sha256,
    model_settings,
    type_name,
    weights_sha256,
    without_annotations,
)
from .loop import MaskImage, MaskLoader, check_labels, check_paths, list_images
from .maker import MaskRun, soft_map, won_probability
from .pool import CRFJob, CRFResult, DenseCRFPool, LatticeCRF, open_crf, usable_cores
from .probabilities import (
    ClassProbabilities,
    map_probabilities,
    probabilities_to_mask,
    seg_probabilities,
    threshold_mask,
)
from .recipe import CLASSES, SOURCES, MaskRecipe, make_recipe
from .voc_export import VOCExportHook, use_voc_export

__all__ = [
    'check_labels',
    'check_paths',
    'CLASS_EPSILON',
    'CLASSES',
    'ClassProbabilities',
    'CRFJob',
    'CRFMask',
    'CRFResult',
    'dense_crf',
    'dense_crf_batch',
    'dense_crf_mask',
    'DenseCRFOptions',
    'DenseCRFPool',
    'evaluated_bkg',
    'file_sha256',
    'LatticeCRF',
    'list_images',
    'make_recipe',
    'MANIFEST',
    'map_probabilities',
    'mask_dataloader',
    'MaskFolder',
    'MaskImage',
    'MaskLoader',
    'MaskRecipe',
    'MaskRun',
    'model_settings',
    'open_crf',
    'prepare_mask_run',
    'probabilities_to_mask',
    'PseudoLabelHook',
    'read_manifest',
    'seg_probabilities',
    'soft_map',
    'SOURCES',
    'SPLITS',
    'threshold_mask',
    'type_name',
    'usable_cores',
    'use_pseudo_labels',
    'use_voc_export',
    'VOCExportHook',
    'weights_sha256',
    'without_annotations',
    'won_probability',
]
