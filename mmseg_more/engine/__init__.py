"""Hooks, schedulers, and what training and testing need around the Runner."""

from . import hooks, optim, schedulers

__all__ = ['hooks', 'optim', 'schedulers']
