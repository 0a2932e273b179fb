"""The table of all classes, with the columns that a run has figures for."""

import math
from typing import Any, List, NamedTuple, Optional

from ..evaluation.report import COLUMN_TITLES
from .figures import RunFigures


class Column(NamedTuple):
    """One column, and its value for each class."""

    title: str
    """What stands above it."""
    values: List[Optional[float]]
    """``(C,)``; None where there is no figure."""
    digits: int = 1
    """Digits after the point."""


def class_columns(figures: RunFigures) -> List[Column]:
    """Columns of the table but the names of the classes.

    Args:
        figures: Of a run. IoU, precision, recall, AP and confidence are in percent.
    """
    labelled, shown = figures.num_labelled, figures.num_shown
    columns = []
    if labelled.any():
        columns.append(Column('images labelled', [None, *_numbers(labelled[1:])], 0))
    columns.append(Column('images that show it', _numbers(shown), 0))
    share = 100 * figures.num_pixels / figures.num_pixels.sum().clamp_min(1)
    columns.append(Column('pixels %', _numbers(share)))
    if figures.mean_confidence() is not None:
        confidence = 100 * figures.class_confidence()
        columns.append(Column('confidence %', _numbers(confidence)))
    precision = figures.class_precision()
    if precision is not None:
        columns.append(Column('label AP %', [None, *_numbers(100 * precision)]))
    for name, value in figures.segmentation().items():
        title = COLUMN_TITLES.get(name, name)
        iou = value.iou.where(value.counted, math.nan)
        columns.append(Column(f'{title} IoU %', _numbers(100 * iou)))
        if name == figures.judged:
            columns.append(Column(f'{title} precision %', _numbers(100 * value.precision)))
            columns.append(Column(f'{title} recall %', _numbers(100 * value.recall)))
    return columns


def _numbers(values: Any) -> List[Optional[float]]:
    return [None if math.isnan(value) else value for value in values.tolist()]
