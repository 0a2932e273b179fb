"""Hooks, schedulers, and what training and mask making need around the Runner."""

from . import hooks, optim, pseudo_labels, schedulers, voc_export

__all__ = ['hooks', 'optim', 'pseudo_labels', 'schedulers', 'voc_export']
