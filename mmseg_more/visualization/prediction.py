"""A picture of what the model says of one image."""

from typing import Mapping, Optional, Sequence

import numpy as np

from .drawing import Array, localization_panel, mask_overlay


def draw_prediction(
    image: np.ndarray,
    mask: Array,
    palette: Sequence[Sequence[int]],
    classes: Sequence[str],
    maps: Optional[Mapping[str, Array]] = None,
    present: Sequence[int] = (),
    alpha: float = 0.5,
    with_labels: bool = True,
) -> np.ndarray:
    """The mask over the image; with maps, a panel of them all.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        mask: Dense labels ``(H, W)``, 0 = background.
        palette: ``C`` RGB colours, background first.
        classes: ``C`` names.
        maps: Field name -> ``(K, H, W)`` in [0, 1].
        present: Classes whose maps are shown, from 0.
        alpha: Share of colours and heat, in [0, 1]. Defaults to .5.
        with_labels: Whether names are written into the mask; a panel
            has a legend. Defaults to True.

    Returns:
        RGB uint8, of the image's size without maps.
    """
    if maps:
        return localization_panel(
            image, maps, present, dict(mask=mask), classes, palette, alpha
        )
    return mask_overlay(image, mask, palette, classes if with_labels else None, alpha)
