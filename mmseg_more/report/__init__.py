"""One HTML page about a test or about a folder of masks."""

from .figures import RunFigures
from .gallery import Gallery, draw_card
from .mask_folder import ReportedMasks
from .model_run import see_by_model
from .page import render_page
from .seen_image import SeenImage, see_files

__all__ = [
    'Gallery',
    'ReportedMasks',
    'RunFigures',
    'SeenImage',
    'draw_card',
    'render_page',
    'see_by_model',
    'see_files',
]
