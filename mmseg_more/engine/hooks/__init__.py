"""Hooks of trainings and tests."""

from .broken_images_hook import BrokenImagesHook
from .checkpoint_hook import CheckpointHook
from .finite_loss_hook import FiniteLossHook
from .iteration_hook import IterationHook
from .localization_hook import LocalizationHook
from .loss_images_hook import LossImagesHook
from .mean_teacher_hook import MeanTeacherHook
from .progress_hook import ProgressHook
from .sanity_check_hook import SanityCheckHook
from .signal_hook import SignalHook
from .tf32_hook import TF32Hook

__all__ = [
    'BrokenImagesHook',
    'CheckpointHook',
    'FiniteLossHook',
    'IterationHook',
    'LocalizationHook',
    'LossImagesHook',
    'MeanTeacherHook',
    'ProgressHook',
    'SanityCheckHook',
    'SignalHook',
    'TF32Hook',
]
