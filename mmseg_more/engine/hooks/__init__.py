from .iteration_hook import IterationHook
from .localization_hook import LocalizationHook
from .mean_teacher_hook import MeanTeacherHook
from .sanity_check_hook import SanityCheckHook
from .tf32_hook import TF32Hook

__all__ = [
    'IterationHook',
    'LocalizationHook',
    'MeanTeacherHook',
    'SanityCheckHook',
    'TF32Hook',
]
