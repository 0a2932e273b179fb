"""Backbone, graph, head, losses and the segmentor."""

from . import losses  # noqa: F401
from .backbones import MoReViT
from .decode_heads import LargeFOVHead, PatchAffinityHead
from .graph import GraphCategoryRepresentation
from .segmentors import MoRe, MoReTTAModel
from .structures import MAP_NAMES, LocalizationMaps, LocalizationRequest, Tokens

__all__ = [
    'MAP_NAMES',
    'GraphCategoryRepresentation',
    'LargeFOVHead',
    'LocalizationMaps',
    'LocalizationRequest',
    'MoRe',
    'MoReTTAModel',
    'MoReViT',
    'PatchAffinityHead',
    'Tokens',
]
