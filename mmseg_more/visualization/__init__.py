"""Pictures of maps and labels, as RGB arrays."""

from .drawing import (
    color_labels,
    draw_grid,
    heat_overlay,
    list_names,
    localization_panel,
    mask_overlay,
    strongest,
)
from .image_label_visualizer import ImageLabelVisualizer
from .model_grid import draw_model_grid
from .prediction import draw_prediction

__all__ = [
    'ImageLabelVisualizer',
    'color_labels',
    'draw_grid',
    'draw_model_grid',
    'draw_prediction',
    'heat_overlay',
    'list_names',
    'localization_panel',
    'mask_overlay',
    'strongest',
]
