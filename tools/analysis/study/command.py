"""What the command lines of studies share: arguments, the config, and what has finished."""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from mmengine.config import Config

from mmseg_more.engine import launch
from mmseg_more.engine.command_line import add_config_options
from mmseg_more.masks.cores import usable_cores
from mmseg_more.masks.lock import FolderLock

from .runs import Run, is_finished, read_run, run_folder, train_all

CONFIG = 'configs/more/more_vit-t_shapes.py'


def add_arguments(
    parser: argparse.ArgumentParser, work_dir: str, seeds: Sequence[int]
) -> None:
    """Arguments of every study.

    Args:
        parser: Gets them.
        work_dir: Default of the folder of the runs.
        seeds: Default of the seeds.
    """
    parser.add_argument('--work-dir', default=work_dir, help='where runs are')
    parser.add_argument(
        '--config', default=CONFIG, help=f'the full method (default: {CONFIG})'
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=list(seeds))
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument(
        '--threads', type=int, help='threads of each training; default: cores / jobs'
    )
    parser.add_argument('--report', action='store_true', help='run nothing')
    parser.add_argument('--markdown', type=Path, help='file to write the report to')
    add_config_options(parser, help='override some settings in the config, for all rows')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse what cannot be, fill in ``threads``, and load the config as ``args.cfg``."""
    args.seeds = list(dict.fromkeys(args.seeds))
    if min(args.seeds) < 0:
        parser.error('--seeds must not be negative')
    if args.jobs < 1 or (args.threads is not None and args.threads < 1):
        parser.error('--jobs and --threads must be at least 1')
    args.threads = args.threads or max(1, usable_cores() // args.jobs)
    args.cfg = load_config(args.config, args.cfg_options)


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
            'val_evaluator must be one LocalizationMetric without out_json: the study '
            'reads the figures that it writes at the end of each training'
        )
    if (cfg.get('randomness') or {}).get('seed') is not None:
        raise ValueError('randomness.seed is set: the seeds are those of --seeds')
    return cfg


def run_study(
    args: argparse.Namespace, plan: Callable[[], List[Run]], report: Callable[[], None]
) -> int:
    """Train what has not finished, and report; the exit status.

    Args:
        args: With the arguments of :func:`add_arguments`, and ``names`` of the rows.
        plan: Gives all trainings; called when no other study runs in the folder.
        report: Says what has come out.

    Raises:
        BlockingIOError: If another study runs in the folder.
        ValueError: If a finished run has other settings.
    """
    try:
        failed = [] if args.report else _run_missing(args, plan)
        if failed:
            names = '; '.join(run.name for run in failed)
            print(f'{len(failed)} trainings failed: {names}', file=sys.stderr)
            if not read_results(Path(args.work_dir), args.names, args.seeds):
                return 1
        report()
    except KeyboardInterrupt:
        print('interrupted: the same command goes on', file=sys.stderr)
        return 128 + signal.SIGINT
    return 1 if failed else 0


def _run_missing(args: argparse.Namespace, plan: Callable[[], List[Run]]) -> List[Run]:
    """Train what has not finished; the runs that failed."""
    work_dir = Path(args.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(work_dir, 'trainings are run')
    lock.acquire()
    try:
        planned = plan()
        due = [run for run in planned if not is_finished(run)]
        print(
            f'{len(planned)} trainings, {len(planned) - len(due)} have finished, '
            f'{len(due)} to run, {args.jobs} at a time with {args.threads} threads each',
            flush=True,
        )
        return train_all(due, args.jobs, args.threads)
    finally:
        lock.release()


def read_results(
    work_dir: Path, names: Sequence[str], seeds: Sequence[int]
) -> Dict[str, Dict[int, Dict[str, Any]]]:
    """The run.json by row and seed, of the runs that have finished.

    Args:
        work_dir: Folder of the study.
        names: Of the rows.
        seeds: Of the trainings.

    Raises:
        ValueError: If a file is broken.
    """
    results: Dict[str, Dict[int, Dict[str, Any]]] = {}
    for name in names:
        for seed in seeds:
            content = read_run(run_folder(work_dir, name, seed))
            if content is not None:
                results.setdefault(name, {})[seed] = content
    return results
