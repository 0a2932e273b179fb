"""Hooks, schedulers, and what training needs around the Runner."""
from . import hooks, optim, schedulers

__all__ = ['hooks', 'optim', 'schedulers']
