"""Pure tensor functions: maps, pseudo labels, refinement, filtering."""

from .bilateral import (
    bilateral_energy,
    bilateral_filter,
    bilateral_filter_batch,
    choose_backend,
)
from .crf_pool import CRFJob, CRFResult, DenseCRFPool
from .dense_crf import CLASS_EPSILON, CRFMask, DenseCRFOptions, dense_crf, dense_crf_mask
from .maps import (
    check_scales,
    class_patch_similarity,
    fuse_maps,
    merge_flip,
    normalize_maps,
    resize_map,
    scaled_size,
)
from .masks import (
    ClassProbabilities,
    map_probabilities,
    probabilities_to_mask,
    seg_probabilities,
    threshold_mask,
)
from .permutohedral import Lattice, build_lattice, filter_on_lattice
from .pseudo_label import (
    IGNORE_INDEX,
    PatchLabels,
    affinity_pairs,
    maps_to_labels,
    maps_to_patch_labels,
)
from .refinement import (
    PAROptions,
    pixel_adaptive_refinement,
    pixel_affinity,
    propagate,
    refine_labels,
)

__all__ = [
    'CLASS_EPSILON',
    'IGNORE_INDEX',
    'CRFJob',
    'CRFMask',
    'CRFResult',
    'ClassProbabilities',
    'DenseCRFOptions',
    'DenseCRFPool',
    'Lattice',
    'PAROptions',
    'PatchLabels',
    'affinity_pairs',
    'bilateral_energy',
    'bilateral_filter',
    'bilateral_filter_batch',
    'build_lattice',
    'check_scales',
    'choose_backend',
    'class_patch_similarity',
    'dense_crf',
    'dense_crf_mask',
    'filter_on_lattice',
    'fuse_maps',
    'map_probabilities',
    'maps_to_labels',
    'maps_to_patch_labels',
    'merge_flip',
    'normalize_maps',
    'pixel_adaptive_refinement',
    'pixel_affinity',
    'probabilities_to_mask',
    'propagate',
    'refine_labels',
    'resize_map',
    'scaled_size',
    'seg_probabilities',
    'threshold_mask',
]
