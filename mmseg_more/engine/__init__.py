"""Hooks, schedulers, and what training and testing need around the Runner."""

from . import hooks, optim, schedulers, train_loop

__all__ = ['hooks', 'optim', 'schedulers', 'train_loop']
