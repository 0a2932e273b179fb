"""How the figures are shown and written."""

import json
import math
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from prettytable import PrettyTable
from torch import Tensor

from ..files import write_bytes
from .functional import SegmentationFigures

COLUMN_TITLES = dict(
    cam='CAM', lam='LAM', fused='fused', attention='attention', seg='segmentation'
)


def format_table(
    figures: Mapping[str, SegmentationFigures],
    metrics: Mapping[str, float],
    bkg: Mapping[str, float],
    classes: Sequence[str],
) -> str:
    """Table with a row per class and a column per map.

    Args:
        figures: Figures of each column by its name, in order.
        metrics: Flat figures, as ``LocalizationMetric`` returns.
        bkg: Fixed threshold of each map.
        classes: ``C`` names, background first.

    Returns:
        IoU of each class in percent, below them the means, the
        confusion ratio and the thresholds; "-" where there is no figure.
    """
    table = PrettyTable(['class', *(COLUMN_TITLES[n] for n in figures)])
    table.align = 'r'
    table.align['class'] = 'l'
    for index, name in enumerate(classes):
        last = index == len(classes) - 1
        table.add_row(
            [
                name,
                *(
                    _number(100 * f.iou[index].item() if f.counted[index] else None)
                    for f in figures.values()
                ),
            ],
            divider=last,
        )
    for key in ('mIoU', 'precision', 'recall', 'confusion_ratio'):
        table.add_row(
            [
                key.replace('_', ' '),
                *(_number(metrics[f'{name}/{key}']) for name in figures),
            ]
        )
    if any(name in bkg for name in figures):
        table.add_row(['threshold', *(_number(bkg.get(name)) for name in figures)])
        for key in ('mIoU_best', 'best_threshold'):
            table.add_row(
                [
                    key.replace('_', ' '),
                    *(_number(metrics.get(f'{name}/{key}')) for name in figures),
                ]
            )
    return table.get_string()


MAX_COLUMNS = 6


def format_classes(
    figures: Mapping[str, Tuple[float, Optional[Tensor]]], classes: Sequence[str]
) -> str:
    """Table with a row per class and a column per figure.

    Args:
        figures: By their keys ``SOURCE/NAME`` the figure of all classes, and
            those of each ``(C,)`` or None: then it stands below the table.
        classes: ``C`` names.

    Returns:
        The last row is of all classes; "-" where there is no figure. A class without
        any figure, such as the background of localization maps, has no row. More columns
        than ``MAX_COLUMNS`` become a table for each source.
    """
    columns = {
        key: (total, by_class)
        for key, (total, by_class) in figures.items()
        if by_class is not None
    }
    tables = [[*columns]]
    if len(columns) > MAX_COLUMNS:
        sources = dict.fromkeys(key.split('/')[0] for key in columns)
        tables = [[k for k in columns if k.split('/')[0] == source] for source in sources]
    below = [
        f'{key} {_number(total)}'
        for key, (total, by_class) in figures.items()
        if by_class is None
    ]
    parts = [_class_table({k: columns[k] for k in keys}, classes) for keys in tables]
    return '\n'.join([*parts, *([', '.join(below)] if below else [])])


def _class_table(
    figures: Mapping[str, Tuple[float, Tensor]], classes: Sequence[str]
) -> str:
    table = PrettyTable(['class', *figures])
    table.align = 'r'
    table.align['class'] = 'l'
    rows = [
        [name, *(_number(of_classes[index].item()) for _, of_classes in figures.values())]
        for index, name in enumerate(classes)
    ]
    rows = [row for row in rows if set(row[1:]) != {'-'}]
    for row in rows:
        table.add_row(row, divider=row is rows[-1])
    table.add_row(['all', *(_number(total) for total, _ in figures.values())])
    return table.get_string()


def _number(value: Optional[float]) -> str:
    return '-' if value is None or math.isnan(value) else f'{value:.2f}'


def mean_figures(name: str, figures: SegmentationFigures) -> Dict[str, float]:
    """Means over the labels, as ``NAME/mIoU`` and so on.

    In percent, but for the confusion ratio.
    """
    return {
        f'{name}/mIoU': 100 * figures.mean('iou'),
        f'{name}/precision': 100 * figures.mean('precision'),
        f'{name}/recall': 100 * figures.mean('recall'),
        f'{name}/confusion_ratio': figures.mean('confusion_ratio'),
    }


def class_ious(
    name: str, figures: SegmentationFigures, classes: Sequence[str]
) -> Dict[str, float]:
    """IoU of each class in percent, as ``NAME/IoU/CLASS``."""
    return {
        f'{name}/IoU/{cls}': 100 * iou for cls, iou in zip(classes, figures.iou.tolist())
    }


def write_json(path: str, figures: Mapping[str, Any]) -> None:
    """Write figures so that a reader never sees half a file.

    NaN, which JSON does not have, becomes ``null``, however deep it lies.

    Args:
        path: File to write; its folder is made.
        figures: Figures by their keys, and what else JSON takes.
    """
    text = json.dumps(_without_nan(figures), indent=2, allow_nan=False)
    write_bytes(path, (text + '\n').encode())


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
