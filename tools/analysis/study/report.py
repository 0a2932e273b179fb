"""What the runs say, beside what the paper says: Markdown."""

import math
from collections import Counter
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from prettytable import PrettyTable, TableStyle

from mmseg_more.datasets.image_labels import name_few

from .rows import CODE, FULL, GCR_LABELS, IN_TURN, LEFT_OUT, OFF, Row, row_name
from .runs import flatten
from .statistics import Interval, mean_interval, paired_difference

Results = Dict[str, Dict[int, Dict[str, Any]]]
"""Row -> seed -> run.json of a finished training."""

FIGURES = {
    'seg/mIoU': 'segmentation mIoU',
    'seg/precision': 'precision',
    'seg/recall': 'recall',
    'seg/confusion_ratio': 'confusion ratio',
    'lam/mIoU': 'LAM mIoU',
    'lam/mIoU_best': 'LAM, best threshold',
    'lam/confusion_ratio': 'LAM confusion ratio',
    'cam/mIoU': 'CAM mIoU',
}
"""In percent, but for the ratios."""

TABLE_3 = {
    'baseline': {'seg/mIoU': 41.6, 'seg/precision': 76.2, 'seg/recall': 46.5},
    'without-cre': {'seg/mIoU': 65.0, 'seg/precision': 75.3, 'seg/recall': 80.1},
    'without-gcr': {'seg/mIoU': 72.1, 'seg/precision': 81.6, 'seg/recall': 85.5},
    'without-ure': {'seg/mIoU': 74.4, 'seg/precision': 84.3, 'seg/recall': 85.7},
    FULL: {'seg/mIoU': 76.4, 'seg/precision': 84.5, 'seg/recall': 88.0},
}
"""Ablation of the paper, VOC val."""
TABLE_4 = dict(more=0.22, toco=0.32)
"""Confusion ratios of the paper; ToCo is another method, with the same affinity loss."""


class Comparison(NamedTuple):
    """A row against the full method in one figure, ours beside the paper's."""

    row: str
    figure: str
    paper: float
    """Published difference, row - full."""
    ours: Interval
    """Paired differences, row - full."""

    @property
    def sign_agrees(self) -> Optional[bool]:
        """None: nothing to compare."""
        return None if self.ours.n == 0 else self.ours.mean * self.paper > 0

    @property
    def verdict(self) -> str:
        if self.sign_agrees is None:
            return 'no runs'
        if self.ours.excludes_zero is None:
            return 'no interval'
        if not self.ours.excludes_zero:
            return 'undecided'
        return 'shown' if self.sign_agrees else 'contradicted'


# ---------------------------------------------------------------- figures
def values(results: Results, row: str, figure: str) -> Dict[int, float]:
    """Seed -> figure, of the runs that have it."""
    return {
        seed: run['metrics'][figure]
        for seed, run in results.get(row, {}).items()
        if run['metrics'].get(figure) is not None
    }


def mean_of(results: Results, row: str, figure: str) -> Interval:
    """Mean of a row over its seeds."""
    return mean_interval(list(values(results, row, figure).values()))


def difference(results: Results, row: str, reference: str, figure: str) -> Interval:
    """Paired differences of two rows over the seeds that both have."""
    return paired_difference(
        values(results, row, figure), values(results, reference, figure)
    )


def comparisons(results: Results, gcr: str) -> List[Comparison]:
    """All differences to the full method that the paper gives figures of."""
    full = row_name(FULL, gcr)
    published = [
        (base, figure, value - TABLE_3[FULL][figure])
        for base, figures in TABLE_3.items()
        if base != FULL
        for figure, value in figures.items()
    ]
    toco = TABLE_4['toco'] - TABLE_4['more']
    published.append(('add-ptc', 'seg/confusion_ratio', toco))
    return [
        Comparison(
            row_name(base, gcr),
            figure,
            paper,
            difference(results, row_name(base, gcr), full, figure),
        )
        for base, figure, paper in published
    ]


# ---------------------------------------------------------------- text
def number(value: float, figure: str, signed: bool = False) -> str:
    """A figure as text: percent with one digit, a ratio with three."""
    if math.isnan(value):
        return '-'
    return f'{value:{"+" * signed}.{3 if "ratio" in figure else 1}f}'


def mean_text(interval: Interval, figure: str) -> str:
    """``mean ± half``."""
    text = number(interval.mean, figure)
    if not math.isnan(interval.half):
        text += f' ± {number(interval.half, figure)}'
    return text


def difference_text(interval: Interval, figure: str) -> str:
    """``mean [low, high]``, bold where the interval excludes 0."""
    text = number(interval.mean, figure, signed=True)
    if interval.excludes_zero is not None:
        low, high = (
            number(end, figure, signed=True) for end in (interval.low, interval.high)
        )
        text += f' [{low}, {high}]'
    return f'**{text}**' if interval.excludes_zero else text


def _table(names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    table = PrettyTable(list(names))
    table.set_style(TableStyle.MARKDOWN)
    table.align = 'l'
    table.add_rows([list(line) for line in lines])
    return table.get_string()


def means_table(results: Results, rows: Mapping[str, Row]) -> str:
    """A line for each row that has runs."""
    lines = []
    for name, row in rows.items():
        if results.get(name):
            cells = [
                mean_text(mean_of(results, name, figure), figure) for figure in FIGURES
            ]
            form = '' if row.gcr == CODE else f', {GCR_LABELS[row.gcr]}'
            lines.append([f'{row.label}{form}', str(len(results[name])), *cells])
    return _table(['', 'n', *FIGURES.values()], lines)


def differences_table(results: Results, pairs: Sequence[Tuple[str, str, str]]) -> str:
    """A line for each ``(label, row, reference)`` that shares a seed; '' without one."""
    lines = []
    for label, row, reference in pairs:
        cells = {figure: difference(results, row, reference, figure) for figure in FIGURES}
        n = cells['seg/mIoU'].n
        if n:
            lines.append(
                [
                    label,
                    str(n),
                    *(
                        difference_text(cell, figure)
                        + (f' (n = {cell.n})' if cell.n != n else '')
                        for figure, cell in cells.items()
                    ),
                ]
            )
    return _table(['', 'n', *FIGURES.values()], lines) if lines else ''


def order_table(found: Sequence[Comparison], rows: Mapping[str, Row]) -> str:
    """Each published difference beside ours."""

    def word(value: Optional[bool]) -> str:
        return '-' if value is None else 'yes' if value else 'no'

    lines = []
    for one in found:
        toco = ' (ToCo)' if 'ratio' in one.figure else ''
        lines.append(
            [
                f'{rows[one.row].label} - full',
                FIGURES[one.figure],
                number(one.paper, one.figure, signed=True) + toco,
                difference_text(one.ours, one.figure).replace('*', ''),
                str(one.ours.n),
                word(one.sign_agrees),
                word(one.ours.excludes_zero),
                one.verdict,
            ]
        )
    names = ['', 'figure', 'paper', 'here, 95 %', 'n', "paper's sign", 'without 0', '']
    names[-1] = 'verdict'
    return _table(names, lines)


def summary(found: Sequence[Comparison], results: Results, gcr: str) -> str:
    """How many of the paper's differences are seen, and the order of the means."""
    counts = Counter(one.verdict for one in found)
    text = (
        f"Of the paper's {len(found)} differences to the full method, "
        f'{counts["shown"]} are shown (its sign, interval without 0), '
        f'{counts["contradicted"]} are contradicted (the other sign, interval without 0), '
        f'{counts["undecided"]} are undecided (interval with 0)'
    )
    unknown = counts['no runs'] + counts['no interval']
    text += f', {unknown} have fewer than two pairs of runs.' if unknown else '.'
    means = {
        base: mean_of(results, row_name(base, gcr), 'seg/mIoU').mean for base in TABLE_3
    }
    known = [base for base in TABLE_3 if not math.isnan(means[base])]
    here = sorted(known, key=lambda base: means[base])
    paper = sorted(known, key=lambda base: TABLE_3[base]['seg/mIoU'])
    if len(known) > 1:
        text += (
            f' Segmentation mIoU, from low to high: {" < ".join(here)} here, '
            + ('as in the paper' if here == paper else f'{" < ".join(paper)} in the paper')
            + ' (order of the means, whatever their intervals).'
        )
    return text


# ---------------------------------------------------------------- which runs
def provenance(results: Results) -> str:
    """Commits, threads and time of the runs; says where they were not the same."""
    runs = [run for seeds in results.values() for run in seeds.values()]
    lines = [f'{len(runs)} runs']
    for key, word in (('commit', 'commit'), ('threads', 'threads each')):
        counts = Counter(str(run.get(key)) for run in runs)
        lines.append(
            f'{word} {next(iter(counts))}'
            if len(counts) == 1
            else f'**NOT ALL THE SAME**, {word}: '
            + ', '.join(f'{value} ({n} runs)' for value, n in counts.items())
        )
    hours = sum(run.get('duration_s') or 0 for run in runs) / 3600
    lines.append(f'{hours:.1f} hours of training in all')
    return '; '.join(lines) + '.'


def check_settings(results: Results, rows: Mapping[str, Row]) -> None:
    """Everything but what the rows change has to be the same in all runs.

    Raises:
        ValueError: If it is not; names what differs.
    """
    changed = {key for row in rows.values() for key in row.options}
    changed |= {key for options in OFF.values() for key in options}
    first: Optional[Tuple[str, Dict[str, Any]]] = None
    for row, seeds in results.items():
        for seed, run in seeds.items():
            common = {
                key: value
                for key, value in flatten(run['settings']).items()
                if key not in changed and not key.startswith('model.graph')
            }
            if first is None:
                first = f'{row}, seed {seed}', common
            if common != first[1]:
                differing = sorted(
                    key
                    for key in {*common, *first[1]}
                    if common.get(key) != first[1].get(key)
                )
                raise ValueError(
                    f'{row}, seed {seed} and {first[0]} were run with different settings '
                    f'({name_few(differing)}), so that they do not compare: delete those '
                    'that are wrong, and run them again'
                )


def missing_runs(results: Results, names: Sequence[str], seeds: Sequence[int]) -> str:
    """Which of the runs that were asked for are not there; '' if all are."""
    lines = []
    for name in names:
        absent = [str(seed) for seed in seeds if seed not in results.get(name, {})]
        if absent:
            lines.append(f'{name} (seed {" ".join(absent)})')
    return f'Missing: {", ".join(lines)}.' if lines else ''


# ---------------------------------------------------------------- the whole
def make_report(
    results: Results, rows: Mapping[str, Row], names: Sequence[str], seeds: Sequence[int]
) -> str:
    """The report, in Markdown.

    Args:
        results: Finished trainings.
        rows: All rows.
        names: Rows that were asked for.
        seeds: Seeds that were asked for.

    Raises:
        ValueError: If the runs do not compare.
    """
    check_settings(results, rows)
    parts = [provenance(results), missing_runs(results, names, seeds)]
    parts += [
        'Means over the seeds with 95 % intervals (t), in percent but for the ratios.',
        means_table(results, rows),
    ]
    for gcr, label in GCR_LABELS.items():
        if results.get(row_name(FULL, gcr)):
            parts += _section(results, rows, gcr, label)
    parts += _forms(results, rows)
    return '\n\n'.join(part for part in parts if part) + '\n'


def _section(results: Results, rows: Mapping[str, Row], gcr: str, label: str) -> List[str]:
    """The full method with one form of GCR, and what was left out of it."""
    full = row_name(FULL, gcr)
    against = differences_table(
        results,
        [
            (rows[name].label, name, full)
            for name in (row_name(base, gcr) for base in LEFT_OUT if base != FULL)
        ],
    )
    if not against:
        return [f'### {label}', 'Nothing to compare with the full method yet.']
    turn = [row_name(base, gcr) for base in IN_TURN]
    steps = differences_table(
        results, [(f'{rows[b].label}', b, a) for a, b in zip(turn, turn[1:])]
    )
    found = comparisons(results, gcr)
    parts = [
        f'### {label}',
        'Row - full method, paired by seed, with 95 % intervals (t); bold: without 0.',
        against,
        "The paper's Table 3 (VOC) and, for the confusion ratio, Table 4, beside the same "
        'differences here:',
        order_table(found, rows),
        summary(found, results, gcr),
    ]
    if steps:
        parts += ['One part after the other, each row - the row before:', steps]
    return parts


def _forms(results: Results, rows: Mapping[str, Row]) -> List[str]:
    """Each other form of GCR against the code's, row by row."""
    table = differences_table(
        results,
        [
            (f'{row.label}, {GCR_LABELS[row.gcr]}', name, row.base)
            for name, row in rows.items()
            if row.gcr != CODE
        ],
    )
    if not table:
        return []
    return [
        '### Forms of GCR',
        "Row - the same row with the authors' GCR, paired by seed, with 95 % intervals:",
        table,
    ]
