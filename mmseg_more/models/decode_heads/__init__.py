from .large_fov_head import LargeFOVHead
from .patch_affinity_head import PatchAffinityHead

__all__ = ['LargeFOVHead', 'PatchAffinityHead']
