"""Pure tensor functions: maps, pseudo labels, refinement, filtering."""

from .bilateral import (
    bilateral_energy,
    bilateral_filter,
    bilateral_filter_batch,
    bilateral_lattice,
    choose_backend,
    spatial_lattice,
)
from .guided import GuidedFilter, enlarged_strips, fit_guided_filter, guided_strips
from .maps import (
    check_scales,
    class_patch_similarity,
    fuse_maps,
    merge_flip,
    move_threshold,
    normalize_maps,
    resize_map,
    scaled_size,
)
from .permutohedral import Lattice, build_lattice, filter_on_lattice, normalize_lattice
from .pseudo_label import IGNORE_INDEX, affinity_pairs, maps_to_labels, maps_to_patch_labels
from .refinement import (
    PAROptions,
    pixel_adaptive_refinement,
    pixel_affinity,
    propagate,
    refine_labels,
)

__all__ = [
    'GuidedFilter',
    'IGNORE_INDEX',
    'Lattice',
    'PAROptions',
    'affinity_pairs',
    'bilateral_energy',
    'bilateral_filter',
    'bilateral_filter_batch',
    'bilateral_lattice',
    'build_lattice',
    'check_scales',
    'choose_backend',
    'class_patch_similarity',
    'enlarged_strips',
    'filter_on_lattice',
    'fit_guided_filter',
    'fuse_maps',
    'guided_strips',
    'maps_to_labels',
    'maps_to_patch_labels',
    'merge_flip',
    'move_threshold',
    'normalize_lattice',
    'normalize_maps',
    'pixel_adaptive_refinement',
    'pixel_affinity',
    'propagate',
    'refine_labels',
    'resize_map',
    'scaled_size',
    'spatial_lattice',
]
