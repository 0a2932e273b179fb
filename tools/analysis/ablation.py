"""The paper's ablation: train each row with each seed, and compare with the paper.

    python tools/dataset_converters/make_shapes.py data/shapes
    python tools/analysis/ablation.py --work-dir work_dirs/ablation --jobs 2
    python tools/analysis/ablation.py --work-dir work_dirs/ablation --report \
        --markdown ablation.md --plot ablation.png

Rows: the baseline (class tokens alone: no PTC, GCR, CRE, URE), one part after the other,
the full method, and the full method without each part; those with GCR in other forms,
too. All rows have the same data, seeds, schedule and thresholds. --list shows them.

The same command goes on where it was interrupted: a training that has finished leaves
WORK_DIR/ROW/seedN/run.json and is not run again, others are started anew.
"""

import argparse
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.files import write_bytes

sys.path.insert(0, str(Path(__file__).resolve().parent))
from study import runs as study_runs
from study.command import add_arguments, check_arguments, read_results, run_study
from study.pictures import draw_figure, draw_rows
from study.report import make_report
from study.rows import GCR_LABELS, Row, count_patches, make_rows, select


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    add_arguments(parser, 'work_dirs/ablation', [0, 1, 2, 3, 4])
    parser.add_argument(
        '--rows',
        nargs='+',
        default=['all'],
        metavar='NAME',
        help=f'rows, or groups of them by the form of GCR: all (default), '
        f'{", ".join(GCR_LABELS)}',
    )
    parser.add_argument('--list', action='store_true', help='show the rows, run nothing')
    parser.add_argument('--plot', type=Path, help='PNG file: all rows')
    parser.add_argument('--figure', type=Path, help='PNG file: baseline against MoRe')
    args = parser.parse_args(argv)
    check_arguments(parser, args)
    args.all_rows = make_rows(count_patches(args.cfg.model))
    args.names = select(args.all_rows, args.rows)
    return args


def plan(args: argparse.Namespace) -> List[study_runs.Run]:
    """All trainings that were asked for: seed by seed, so that seeds are soon complete.

    Raises:
        ValueError: If two rows are the same training.
    """
    base, work_dir = args.cfg, Path(args.work_dir)
    rows: Mapping[str, Row] = {name: args.all_rows[name] for name in args.names}
    planned = [
        study_runs.make_run(base, work_dir, name, row.options, seed)
        for form in GCR_LABELS
        for seed in args.seeds
        for name, row in rows.items()
        if row.gcr == form
    ]
    settings: Dict[str, dict] = {}
    for run in planned:
        if run.row not in settings:
            settings[run.row] = run.settings()
    for name, one in settings.items():
        for other in args.names[: args.names.index(name)]:
            if one == settings[other]:
                raise ValueError(
                    f'the rows {other} and {name} are the same training: {args.config} (or '
                    '--cfg-options) has no such part; leave out one of them with --rows'
                )
    return planned


def report(args: argparse.Namespace) -> None:
    """Print the report, and write what was asked for.

    Raises:
        ValueError: If runs do not compare, or there are none to draw.
    """
    results = read_results(Path(args.work_dir), args.names, args.seeds)
    if not results:
        raise ValueError(f'{args.work_dir} holds no finished run of {" ".join(args.rows)}')
    text = make_report(results, args.all_rows, args.names, args.seeds)
    print(text)
    if args.markdown:
        write_bytes(args.markdown, text.encode())
    if args.plot:
        draw_rows(args.plot, results, args.all_rows)
    if args.figure:
        draw_figure(args.figure, results)


def list_rows(args: argparse.Namespace) -> None:
    for name in args.names:
        row = args.all_rows[name]
        options = ' '.join(f'{key}={value}' for key, value in row.options.items())
        print(f'{name}: {row.label}; {GCR_LABELS[row.gcr]}\n    {options}')


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    if args.list:
        list_rows(args)
        return 0
    return run_study(args, lambda: plan(args), lambda: report(args))


if __name__ == '__main__':
    sys.exit(main())
