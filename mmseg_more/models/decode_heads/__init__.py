"""Heads of the segmentation and of an auxiliary loss."""

from .large_fov_head import LargeFOVHead
from .patch_affinity_head import PatchAffinityHead

__all__ = ['LargeFOVHead', 'PatchAffinityHead']
