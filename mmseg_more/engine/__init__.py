"""Hooks, schedulers and what training without a GPU needs."""
from . import hooks

__all__ = ['hooks']
