from .iteration_hook import IterationHook

__all__ = ['IterationHook']
