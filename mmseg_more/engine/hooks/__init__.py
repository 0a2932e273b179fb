from .iteration_hook import IterationHook
from .localization_hook import LocalizationHook
from .sanity_check_hook import SanityCheckHook

__all__ = ['IterationHook', 'LocalizationHook', 'SanityCheckHook']
