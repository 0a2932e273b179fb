from .more_vit import MoReViT

__all__ = ['MoReViT']
