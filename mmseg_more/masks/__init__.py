"""From the network's output to masks of images and of whole data sets.

maps -> probabilities -> CRF -> masks: :class:`MaskRecipe` says how, :class:`MaskMaker` does
it, :class:`PseudoLabelHook` and :class:`MaskLoop` do it for a data set, into a folder.
"""

from .calibration import (
    CALIBRATED_MAPS,
    CALIBRATION_VERSION,
    SCALE_KINDS,
    Calibration,
    MapThreshold,
    as_calibration,
    scale_kind,
)
from .confidence import (
    ConfidenceCurve,
    ConfidenceCurves,
    MaskConfidence,
    confidence_of,
    confidence_png,
    expected_iou,
)
from .config import (
    SPLITS,
    evaluated_bkg,
    gives_thresholds,
    mask_dataloader,
    use_pseudo_labels,
)
from .cores import usable_cores
from .dense_crf import (
    BACKENDS,
    CLASS_EPSILON,
    CRFMask,
    DenseCRFOptions,
    dense_crf,
    dense_crf_batch,
    dense_crf_mask,
)
from .folder import CONFIDENCE, MANIFEST, MaskFolder, read_manifest, soft_map
from .hook import PseudoLabelHook
from .large_images import MAX_PIXELS
from .loop import MaskLoop
from .maker import MadeMask, MaskMaker
from .pool import CRFJob, CRFResult, DenseCRFPool, LatticeCRF, open_crf
from .probabilities import (
    ClassProbabilities,
    map_probabilities,
    probabilities_to_mask,
    seg_probabilities,
)
from .recipe import BACKGROUNDS, PREDICTION, SOURCES, MaskRecipe
from .voc_export import COMPETITIONS, VOCExportHook, use_voc_export

__all__ = [
    'BACKENDS',
    'BACKGROUNDS',
    'CALIBRATED_MAPS',
    'CALIBRATION_VERSION',
    'CLASS_EPSILON',
    'COMPETITIONS',
    'CONFIDENCE',
    'CRFJob',
    'CRFMask',
    'CRFResult',
    'Calibration',
    'ClassProbabilities',
    'ConfidenceCurve',
    'ConfidenceCurves',
    'DenseCRFOptions',
    'DenseCRFPool',
    'LatticeCRF',
    'MANIFEST',
    'MAX_PIXELS',
    'MadeMask',
    'MaskConfidence',
    'MapThreshold',
    'MaskFolder',
    'MaskLoop',
    'MaskMaker',
    'MaskRecipe',
    'PREDICTION',
    'PseudoLabelHook',
    'SCALE_KINDS',
    'SOURCES',
    'SPLITS',
    'VOCExportHook',
    'as_calibration',
    'confidence_of',
    'confidence_png',
    'dense_crf',
    'dense_crf_batch',
    'dense_crf_mask',
    'evaluated_bkg',
    'expected_iou',
    'gives_thresholds',
    'map_probabilities',
    'mask_dataloader',
    'open_crf',
    'probabilities_to_mask',
    'read_manifest',
    'scale_kind',
    'seg_probabilities',
    'soft_map',
    'use_pseudo_labels',
    'use_voc_export',
    'usable_cores',
]
