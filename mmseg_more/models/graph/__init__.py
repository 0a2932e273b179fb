from .category_graph import GraphCategoryRepresentation

__all__ = ['GraphCategoryRepresentation']
