"""The graph of class tokens and patches."""

from .category_graph import GraphCategoryRepresentation

__all__ = ['GraphCategoryRepresentation']
