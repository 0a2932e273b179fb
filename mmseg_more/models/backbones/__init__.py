"""Backbones with class tokens."""

from .more_vit import MoReViT

__all__ = ['MoReViT']
