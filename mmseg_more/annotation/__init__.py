"""Masks out to the tools in which people correct them.

A :class:`MaskSource` reads a folder of masks, least certain images first; a module per tool
turns it into the files of that tool; :func:`export_masks` writes these, all or none.
"""

from .export import FORMATS, ExportFormat, export_masks
from .polygons import outlines
from .source import IGNORED_NAME, MaskSource, Region, ScoredMask

__all__ = [
    'FORMATS',
    'IGNORED_NAME',
    'IGNORED_NAME',
    'ExportFormat',
    'MaskSource',
    'Region',
    'ScoredMask',
    'export_masks',
    'outlines',
]
