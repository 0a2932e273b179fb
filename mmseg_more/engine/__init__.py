"""Hooks, schedulers and what training without a GPU needs."""
from . import hooks
from .schedulers import PolyWarmupLR

__all__ = ['PolyWarmupLR', 'hooks']
