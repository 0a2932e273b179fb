"""Pictures of maps and labels, as RGB arrays."""
from .drawing import (color_labels, draw_grid, heat_overlay,
                      localization_panel, strongest)
from .model_grid import draw_model_grid

__all__ = [
    'color_labels', 'draw_grid', 'draw_model_grid', 'heat_overlay',
    'localization_panel', 'strongest'
]
