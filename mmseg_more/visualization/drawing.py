"""Heat maps over images, coloured labels, and grids of pictures.

Every picture is an RGB array ``(H, W, 3)`` uint8. Maps and labels may be
tensors on any device or arrays.
"""

from typing import Collection, Dict, Mapping, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmengine.visualization.utils import img_from_canvas, tensor2ndarray
from torch import Tensor

Array = Union[np.ndarray, Tensor]

TITLES = dict(attention='raw attention', cam='CAM', lam='LAM', fused='LAM x CAM')
"""Titles of the maps by their field names."""

IGNORE_COLOR = (224, 224, 224)
_FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.45)  # and its scale
_MAX_ROWS = 6  # of a panel: more classes than fit on a screen are left out


def heat_overlay(image: np.ndarray, heat: Array, alpha: float = 0.5) -> np.ndarray:
    """Blend a heat map over an image.

    The colours mean the same value in every picture: unlike
    ``Visualizer.draw_featmap``, the map is not stretched to its own range.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        heat: ``(H, W)`` in [0, 1]; clipped to it.
        alpha: Share of the heat map, in [0, 1]. Defaults to .5.
    """
    values = _array(heat).astype(np.float32)
    _check_size(image, values, 'heat map')
    levels = np.rint(255 * values.clip(0, 1)).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_JET)
    colors = cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(image, 1 - alpha, colors, alpha, 0)


def color_labels(
    labels: Array, palette: Sequence[Sequence[int]], ignore_index: int = 255
) -> np.ndarray:
    """Colour dense labels.

    Args:
        labels: ``(H, W)`` or ``(1, H, W)``, 0 =
            background.
        palette: ``C`` RGB colours, background first.
        ignore_index: Drawn in light gray. Defaults to 255.

    Raises:
        ValueError: If a label has no colour.
    """
    labels = _array(labels)
    labels = labels[0] if labels.ndim == 3 else labels
    if not np.issubdtype(labels.dtype, np.integer):
        labels = labels.astype(np.int64)
    ignored = labels == ignore_index
    labels = np.where(ignored, 0, labels)
    if labels.max(initial=0) >= len(palette) or labels.min(initial=0) < 0:
        raise ValueError(
            f'labels reach from {labels.min()} to {labels.max()}, but the '
            f'palette has {len(palette)} colours'
        )
    picture = np.asarray(palette, np.uint8)[labels]
    picture[ignored] = IGNORE_COLOR
    return picture


def mask_overlay(
    image: np.ndarray,
    labels: Array,
    palette: Sequence[Sequence[int]],
    classes: Optional[Sequence[str]] = None,
    alpha: float = 0.5,
) -> np.ndarray:
    """Colour the classes in an image; background stays as it is.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        labels: ``(H, W)`` or ``(1, H, W)``, 0 =
            background.
        palette: ``C`` RGB colours, background first.
        classes: ``C`` names, to be written where
            a class is widest and its name fits.
        alpha: Share of the colours, in [0, 1]. Defaults to .5.
    """
    mask = _array(labels)
    mask = mask[0] if mask.ndim == 3 else mask
    _check_size(image, mask, 'mask')
    blended = cv2.addWeighted(image, 1 - alpha, color_labels(mask, palette), alpha, 0)
    picture = np.where((mask == 0)[..., None], image, blended)
    if classes is not None:
        for label in np.unique(mask):
            if 0 < label < len(classes):
                _write_name(picture, mask == label, classes[label])
    return picture


def _write_name(picture: np.ndarray, region: np.ndarray, name: str) -> None:
    """Write into ``picture``, around the innermost pixel of ``region``."""
    (width, height), _ = cv2.getTextSize(name, *_FONT, 1)
    if width + 2 > picture.shape[1] or height + 6 > picture.shape[0]:
        return
    inside = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 3)[
        1:-1, 1:-1
    ]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    x = int(np.clip(column - width // 2, 1, picture.shape[1] - width - 1))
    y = int(np.clip(row + height // 2, height + 2, picture.shape[0] - 4))
    _write(picture, name, (x, y))


def _write(picture: np.ndarray, text: str, place: Tuple[int, int]) -> None:
    """Write white on black into ``picture``; ``place`` is the lower left corner."""
    for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, place, *_FONT, color, thickness, cv2.LINE_AA)


def list_names(image: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Names at the top of a copy of an image, one below the other.

    A small image is enlarged by a whole number, so that they fit.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        names: What to write.

    Returns:
        RGB uint8, ``s`` times as high and as wide as the image.
    """
    sizes = [cv2.getTextSize(name, *_FONT, 1)[0] for name in names]
    line = 8 + max((height for _, height in sizes), default=0)
    needed = (len(names) * line + 4, max((width for width, _ in sizes), default=0) + 8)
    enlarged = max(-(-need // have) for need, have in zip(needed, image.shape))
    picture = image.repeat(enlarged, 0).repeat(enlarged, 1)
    for number, name in enumerate(names, start=1):
        _write(picture, name, (4, number * line))
    return picture


def label_legend(
    labels: Collection[int],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignore_index: int = 255,
) -> Dict[str, Sequence[int]]:
    """Name -> colour of those labels that a picture shows, in their order."""
    legend = {name: palette[index] for index, name in enumerate(classes) if index in labels}
    if ignore_index in labels:
        legend['ignored'] = IGNORE_COLOR
    return legend


def strongest(maps: Array, present: Sequence[int]) -> np.ndarray:
    """Maximum over the present classes, ``(H, W)``; 0 without any.

    Args:
        maps: ``(K, H, W)``.
        present: Indices of the present classes, from 0.
    """
    values = _array(maps)
    if len(present) == 0:
        return np.zeros(values.shape[1:], np.float32)
    return np.amax(values[list(present)], axis=0)


def localization_panel(
    image: np.ndarray,
    maps: Mapping[str, Array],
    present: Sequence[int],
    labels: Mapping[str, Array],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    alpha: float = 0.5,
    indices: Optional[Sequence[int]] = None,
) -> np.ndarray:
    """Everything known about one image: maps of each class, and labels.

    A row for each present class (at most 6) shows its maps over the image;
    the image itself and the labels stand in the first row.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        maps: Field name -> ``(K, H, W)`` in [0, 1], or ``(P, H, W)`` of the
            classes ``indices``.
        present: Indices of the present classes, from 0.
        labels: Title -> dense labels ``(H, W)``.
        classes: ``C`` names, background first.
        palette: ``C`` RGB colours.
        alpha: Share of the heat map. Defaults to .5.
        indices: Classes that there are maps of, in the order of
            the channels; others have no row. None: all. Defaults to None.
    """
    if indices is None:
        indices = range(len(classes) - 1)
    channels = {index: channel for channel, index in enumerate(indices)}
    titles = ['image', *(TITLES.get(name, name) for name in maps), *labels]
    present = [index for index in present if index in channels][:_MAX_ROWS]
    rows = [
        [
            None,
            *(
                heat_overlay(image, value[channels[index]], alpha)
                for value in maps.values()
            ),
            *(None for _ in labels),
        ]
        for index in present
    ]
    captions = [classes[index + 1] for index in present]
    if not rows:
        rows, captions = [[None] * len(titles)], ['no class']
    rows[0][0] = image
    shown = set()
    for column, value in enumerate(labels.values(), 1 + len(maps)):
        value = tensor2ndarray(value)
        rows[0][column] = color_labels(value, palette)
        shown.update(np.unique(value).tolist())
    return draw_grid(rows, titles, captions, label_legend(shown, classes, palette))


def draw_grid(
    rows: Sequence[Sequence[Optional[np.ndarray]]],
    titles: Sequence[str],
    captions: Optional[Sequence[str]] = None,
    legend: Optional[Mapping[str, Sequence[int]]] = None,
    tile: int = 160,
) -> np.ndarray:
    """Arrange pictures in rows and columns.

    Args:
        rows: Pictures of each row, RGB uint8 of any size; None
            leaves a place empty.
        titles: Title of each column.
        captions: Caption of each row.
        legend: Name -> RGB colour, drawn below.
        tile: Room for a picture in pixels. Defaults to 160.

    Returns:
        RGB ``(H, W, 3)`` uint8.

    Raises:
        ValueError: If a row and the titles differ in number.
    """
    if not rows or any(len(row) != len(titles) for row in rows):
        raise ValueError(
            f'expected at least one row of {len(titles)} pictures, got rows '
            f'of {[len(row) for row in rows]}'
        )
    dpi, title, left = 100, 24, 24 if captions else 4
    per_line = max(1, len(titles) * tile // 130)
    bottom = 26 * -(-len(legend) // per_line) if legend else 4
    width = left + len(titles) * tile
    height = title + len(rows) * tile + bottom
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    size = 0.96 * tile
    for y, row in enumerate(rows):
        top = height - title - (y + 1) * tile
        for x, picture in enumerate(row):
            axes = figure.add_axes(
                (
                    (left + x * tile + 0.02 * tile) / width,
                    top / height,
                    size / width,
                    size / height,
                )
            )
            if picture is None:
                axes.set_axis_off()
            else:
                axes.imshow(picture, interpolation='nearest')
                axes.set_xticks([])
                axes.set_yticks([])
            if y == 0:
                axes.set_title(titles[x], fontsize=10, pad=4, parse_math=False)
        if captions:
            figure.text(
                left / 2 / width,
                (top + size / 2) / height,
                captions[y],
                fontsize=9,
                rotation=90,
                ha='center',
                va='center',
                parse_math=False,  # a $ in a name begins no formula
            )
    if legend:
        handles = [
            Patch(
                facecolor=(color[0] / 255, color[1] / 255, color[2] / 255),
                edgecolor='black',
                linewidth=0.5,
                label=name,
            )
            for name, color in legend.items()
        ]
        box = figure.legend(
            handles=handles,
            loc='lower center',
            ncols=min(per_line, len(handles)),
            fontsize=9,
            frameon=False,
            borderaxespad=0.1,
        )
        for text in box.get_texts():
            text.set_parse_math(False)
    return img_from_canvas(canvas).copy()


def _array(values: Array) -> np.ndarray:
    return np.asarray(tensor2ndarray(values))


def _check_size(image: np.ndarray, other: np.ndarray, what: str) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f'expected an RGB image (H, W, 3) of uint8, got {image.shape} of {image.dtype}'
        )
    if other.shape != image.shape[:2]:
        raise ValueError(f'the {what} is {other.shape}, but the image is {image.shape[:2]}')
