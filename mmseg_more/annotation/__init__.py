"""Masks out to the tools in which people correct them, and back.

A :class:`MaskSource` reads a folder of masks, least certain images first; a module per tool
turns it into the files of that tool, and reads its corrections; :func:`export_masks` and
:func:`import_masks` write what comes out, all or none.
"""

from .corrected import CorrectedMask, ImportSettings
from .export import FORMATS, ExportFormat, export_masks
from .imports import READERS, Imported, import_masks
from .polygons import outlines
from .source import IGNORED_NAME, MaskSource, Region, ScoredMask

__all__ = [
    'FORMATS',
    'IGNORED_NAME',
    'READERS',
    'ImportSettings',
    'CorrectedMask',
    'ExportFormat',
    'Imported',
    'MaskSource',
    'Region',
    'ScoredMask',
    'export_masks',
    'import_masks',
    'outlines',
]
