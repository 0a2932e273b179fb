"""Hooks, schedulers, and what training and testing need around the Runner."""

from . import hooks, layer_decay, optim, schedulers, sharding, train_loop

__all__ = ['hooks', 'layer_decay', 'optim', 'schedulers', 'sharding', 'train_loop']
