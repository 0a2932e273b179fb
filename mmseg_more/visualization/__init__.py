"""Pictures of maps and labels, as pure functions on RGB arrays."""
from .drawing import (color_labels, draw_grid, heat_overlay,
                      localization_panel, strongest)

__all__ = [
    'color_labels', 'draw_grid', 'heat_overlay', 'localization_panel',
    'strongest'
]
