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
import signal
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from mmengine.config import Config

from mmseg_more.engine import launch
from mmseg_more.engine.command_line import CommandParser, ConfigOptions, command
from mmseg_more.files import write_bytes
from mmseg_more.masks.lock import FolderLock
from mmseg_more.masks.pool import usable_cores

sys.path.insert(0, str(Path(__file__).resolve().parent))
from study import runs as study_runs
from study.pictures import draw_figure, draw_rows
from study.report import Results, make_report
from study.rows import GCR_LABELS, Row, count_patches, make_rows, select

CONFIG = 'configs/more/more_vit-t_shapes.py'


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('--work-dir', default='work_dirs/ablation', help='where runs are')
    parser.add_argument(
        '--config', default=CONFIG, help=f'the full method (default: {CONFIG})'
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument(
        '--rows',
        nargs='+',
        default=['all'],
        metavar='NAME',
        help=f'rows, or groups of them by the form of GCR: all (default), '
        f'{", ".join(GCR_LABELS)}',
    )
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument(
        '--threads', type=int, help='threads of each training; default: cores / jobs'
    )
    parser.add_argument('--list', action='store_true', help='show the rows, run nothing')
    parser.add_argument('--report', action='store_true', help='run nothing')
    parser.add_argument('--markdown', type=Path, help='file to write the report to')
    parser.add_argument('--plot', type=Path, help='PNG file: all rows')
    parser.add_argument('--figure', type=Path, help='PNG file: baseline against MoRe')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='override some settings in the config, for all rows',
    )
    args = parser.parse_args(argv)
    args.seeds = list(dict.fromkeys(args.seeds))
    if min(args.seeds) < 0:
        parser.error('--seeds must not be negative')
    if args.jobs < 1 or (args.threads is not None and args.threads < 1):
        parser.error('--jobs and --threads must be at least 1')
    args.threads = args.threads or max(1, usable_cores() // args.jobs)
    args.cfg = load_config(args.config, args.cfg_options)
    args.all_rows = make_rows(count_patches(args.cfg.model))
    args.names = select(args.all_rows, args.rows)
    return args


def load_config(path: str, options: Optional[dict]) -> Config:
    """The config of the full method, without what belongs to a single run.

    Raises:
        FileNotFoundError, ValueError: If there is none, or it cannot be used.
    """
    cfg = launch.load_config(path, options)
    for key in ('work_dir', 'launcher'):
        cfg.pop(key)
    evaluator = cfg.get('val_evaluator')
    if not isinstance(evaluator, dict) or evaluator.get('out_json'):
        raise ValueError(
            'val_evaluator must be one LocalizationMetric without out_json: the ablation '
            'reads the figures that it writes at the end of each training'
        )
    if (cfg.get('randomness') or {}).get('seed') is not None:
        raise ValueError('randomness.seed is set: the seeds are those of --seeds')
    return cfg


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


def run_missing(args: argparse.Namespace) -> List[study_runs.Run]:
    """Train what has not finished; the runs that failed.

    Raises:
        BlockingIOError: If another study runs in the folder.
        ValueError: If a finished run has other settings.
    """
    work_dir = Path(args.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(work_dir, 'trainings are run')
    lock.acquire()
    try:
        planned = plan(args)
        due = [run for run in planned if not study_runs.is_finished(run)]
        print(
            f'{len(planned)} trainings, {len(planned) - len(due)} have finished, '
            f'{len(due)} to run, {args.jobs} at a time with {args.threads} threads each',
            flush=True,
        )
        return study_runs.train_all(due, args.jobs, args.threads)
    finally:
        lock.release()


def read_results(args: argparse.Namespace) -> Results:
    """The runs that have finished of those that were asked for.

    Raises:
        ValueError: If a file is broken.
    """
    results: Results = {}
    for name in args.names:
        for seed in args.seeds:
            folder = study_runs.run_folder(Path(args.work_dir), name, seed)
            content = study_runs.read_run(folder)
            if content is not None:
                results.setdefault(name, {})[seed] = content
    return results


def report(args: argparse.Namespace) -> None:
    """Print the report, and write what was asked for.

    Raises:
        ValueError: If runs do not compare, or there are none to draw.
    """
    results = read_results(args)
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
    try:
        failed = [] if args.report else run_missing(args)
        if failed:
            names = '; '.join(run.name for run in failed)
            print(f'{len(failed)} trainings failed: {names}', file=sys.stderr)
            if not read_results(args):
                return 1
        report(args)
    except KeyboardInterrupt:
        print('interrupted: the same command goes on', file=sys.stderr)
        return 128 + signal.SIGINT
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
