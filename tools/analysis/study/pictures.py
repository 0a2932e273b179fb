"""The means with their intervals, drawn."""

import io
import math
from pathlib import Path
from typing import Dict, List, Mapping, Tuple

import matplotlib
from PIL import Image

from mmseg_more.files import write_bytes

from .report import Results, mean_of, values
from .rows import CODE, FULL, Row

matplotlib.use('Agg')
from matplotlib import pyplot as plt

PANELS = {'seg/mIoU': 'segmentation', 'lam/mIoU': 'LAM', 'cam/mIoU': 'CAM'}
COLORS: Dict[str, str] = {
    CODE: '#2a6fbb',
    'patches': '#d9822b',
    'dot': '#3a9a5b',
    'paper': '#8a5bb0',
}
GREY = '#8c8c8c'


def draw_rows(path: Path, results: Results, rows: Mapping[str, Row]) -> None:
    """All rows that have runs: mean, 95 % interval and each seed, a panel for each map.

    Args:
        path: PNG file to write.
        results: Finished trainings.
        rows: All rows.

    Raises:
        ValueError: If there is no run.
    """
    names = [name for name in rows if results.get(name)]
    if not names:
        raise ValueError(f'{path}: there is no finished run to draw')
    size = (10, 1.3 + 0.27 * len(names))
    figure, axes = plt.subplots(1, 3, figsize=size, sharey=True, layout='constrained')
    for axis, (key, title) in zip(axes, PANELS.items()):
        for y, name in enumerate(names):
            color = COLORS[rows[name].gcr]
            seeds = list(values(results, name, key).values())
            axis.plot(seeds, [y] * len(seeds), 'o', color=color, alpha=0.3, ms=3.5, mew=0)
            interval = mean_of(results, name, key)
            half = 0 if math.isnan(interval.half) else interval.half
            axis.errorbar(
                interval.mean, y, xerr=half, fmt='D', color=color, ms=4, capsize=3
            )
        full = mean_of(results, FULL, key).mean
        if not math.isnan(full):
            axis.axvline(full, color=GREY, lw=0.8, ls=':', zorder=0)
        axis.set(title=title, xlabel='mIoU, %')
        _plain(axis)
    axes[0].set_yticks(range(len(names)), [_label(rows[name]) for name in names])
    axes[0].invert_yaxis()
    axes[0].tick_params(axis='y', length=0)
    _save(figure, path, dpi=110)


def _label(row: Row) -> str:
    return row.label if row.gcr == CODE else f'{row.label}; {row.gcr}'


def draw_figure(path: Path, results: Results) -> None:
    """Baseline against MoRe in segmentation, LAM and CAM: the picture of the README.

    Args:
        path: PNG file to write, 1240 pixels wide for a display at 620.
        results: Finished trainings.

    Raises:
        ValueError: If the baseline or the full method has no run.
    """
    series: List[Tuple[str, str, str]] = [
        ('baseline', 'baseline: class tokens alone', '#b8b8b8'),
        (FULL, 'MoRe: + affinity loss, GCR, CRE, URE', COLORS[CODE]),
    ]
    absent = [name for name, _, _ in series if not results.get(name)]
    if absent:
        raise ValueError(f'{path}: there is no finished run of {" and ".join(absent)}')
    with plt.rc_context({'font.size': 10.5}):
        figure, axis = plt.subplots(figsize=(6.2, 2.9), layout='constrained')
    for place, (name, label, color) in zip((-0.19, 0.19), series):
        for x, key in enumerate(PANELS):
            interval = mean_of(results, name, key)
            half = None if math.isnan(interval.half) else interval.half
            axis.bar(
                x + place,
                interval.mean,
                0.36,
                yerr=half,
                color=color,
                label=label if x == 0 else None,
                error_kw=dict(ecolor='#333333', capsize=4, lw=1.2),
            )
            top = interval.mean + (half or 0)
            axis.text(x + place, top + 1.5, f'{interval.mean:.1f}', ha='center')
    axis.set_xticks(range(len(PANELS)), list(PANELS.values()))
    axis.tick_params(axis='x', length=0)
    axis.set(ylabel='mIoU, %', ylim=(0, max(100, axis.get_ylim()[1])))
    counts = ' / '.join(dict.fromkeys(str(len(results[name])) for name, _, _ in series))
    axis.legend(
        loc='lower center',
        bbox_to_anchor=(0.5, 1.0),  # above the bars, which may be as high as the axis
        ncol=2,
        frameon=False,
        fontsize=9.5,
        title=f'Mean and 95 % interval over seeds (n = {counts})',
        title_fontsize=9.5,
    )
    _plain(axis)
    axis.grid(visible=False, axis='x')
    _save(figure, path, dpi=200)


def _plain(axis: plt.Axes) -> None:
    axis.spines[['top', 'right']].set_visible(False)
    axis.grid(axis='both', color='#eeeeee', lw=0.6)
    axis.set_axisbelow(True)


def _save(figure: plt.Figure, path: Path, dpi: int) -> None:
    """A PNG of 64 colours, which text and lines do with, a third of the size."""
    raw = io.BytesIO()
    figure.savefig(raw, format='png', dpi=dpi)
    plt.close(figure)
    small = io.BytesIO()
    Image.open(raw).convert('RGB').quantize(64).save(small, 'PNG', optimize=True)
    write_bytes(path, small.getvalue())
