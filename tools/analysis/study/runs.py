"""Trainings side by side, each in a folder of its own; a finished one leaves a run.json."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from mmengine.config import Config

from mmseg_more.datasets.image_labels import name_few
from mmseg_more.evaluation.report import write_json

ROOT = Path(__file__).resolve().parents[3]
TRAINER = (sys.executable, str(ROOT / 'tools' / 'train.py'))
LOG_LINES = 20
PATIENCE = 10.0  # seconds that a child has to end


@dataclass(frozen=True)
class Run:
    """A training of a row with a seed.

    Args:
        row: Name of the row.
        seed: Seed of the training.
        folder: Where everything of it is written.
        options: Options of the row.
        cfg: The whole config, the options and the seed in it.
    """

    row: str
    seed: int
    folder: Path
    options: Mapping[str, Any]
    cfg: Config

    @property
    def name(self) -> str:
        return f'{self.row}, seed {self.seed}'

    @property
    def log(self) -> Path:
        return self.folder / 'log.txt'

    @property
    def metrics(self) -> Path:
        """Written by the evaluation at the end of the training."""
        return self.folder / 'metrics.json'

    def settings(self) -> Dict[str, Any]:
        """What decides the outcome, but for the seed: the config, as JSON reads it back.

        Paths in the checkout are relative to it: elsewhere it is the same training.
        """
        text = json.dumps(self.cfg.to_dict(), default=str)
        return json.loads(text.replace(json.dumps(f'{ROOT}/')[1:-1], ''))


def run_folder(work_dir: Path, row: str, seed: int) -> Path:
    return work_dir / row / f'seed{seed}'


def make_run(
    base: Config, work_dir: Path, row: str, options: Mapping[str, Any], seed: int
) -> Run:
    """The training of a row with a seed, which is not started.

    Args:
        base: Config of the full method.
        work_dir: Folder of the study.
        row: Name of the row.
        options: Options of the row.
        seed: Seed of the training.
    """
    cfg = Config(base.to_dict())
    if (cfg.get('default_hooks') or {}).get('checkpoint'):
        # the figures are those of the end: a second file of the best would be the same
        cfg.default_hooks.checkpoint.save_best = None
    cfg.merge_from_dict(dict(options))
    return Run(row, seed, run_folder(work_dir, row, seed), options, cfg)


# ---------------------------------------------------------------- what has been run
def read_run(folder: Path) -> Optional[Dict[str, Any]]:
    """The run.json of a finished training; None if it has not finished.

    Raises:
        ValueError: If the file is not one that :func:`train` has written.
    """
    path = folder / 'run.json'
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        missing = {'row', 'seed', 'metrics', 'settings'} - set(content)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f'{path} cannot be read ({error}): delete {folder} to run it again'
        ) from error
    if missing:
        raise ValueError(
            f'{path} lacks {", ".join(sorted(missing))}: delete {folder} to run it again'
        )
    return content


def is_finished(run: Run) -> bool:
    """Whether the training needs not be run.

    Raises:
        ValueError: If it was run with other settings; names them.
    """
    content = read_run(run.folder)
    if content is None:
        return False
    changed = differences(content['settings'], run.settings())
    if changed:
        raise ValueError(
            f'{run.folder} holds {run.name} with other settings: {name_few(changed)}. '
            'Take the settings of then, another --work-dir, or delete the folder'
        )
    return True


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> List[str]:
    """``key: old -> new`` of each setting that differs, keys with dots."""
    flat_old, flat_new = flatten(old), flatten(new)
    return [
        f'{key}: {flat_old.get(key, "absent")} -> {flat_new.get(key, "absent")}'
        for key in sorted({*flat_old, *flat_new})
        if (key in flat_old) != (key in flat_new) or flat_old.get(key) != flat_new.get(key)
    ]


def flatten(settings: Any, prefix: str = '') -> Dict[str, Any]:
    """Nested dicts and lists as one dict, keys joined by dots."""
    if isinstance(settings, Mapping):
        items = list(settings.items())
    elif isinstance(settings, list):
        items = list(enumerate(settings))
    else:
        return {prefix: settings}
    if not items:
        return {prefix: type(settings)()}
    flat: Dict[str, Any] = {}
    for key, value in items:
        flat.update(flatten(value, f'{prefix}.{key}' if prefix else str(key)))
    return flat


# ---------------------------------------------------------------- running
@dataclass
class _Child:
    run: Run
    process: subprocess.Popen
    started: float
    commit: Optional[str]


def train_all(runs: Sequence[Run], jobs: int, threads: int) -> List[Run]:
    """Run the trainings, ``jobs`` at a time; those that failed.

    A failure shows the end of its log, and the others go on. Whatever ends this function
    ends the children.

    Args:
        runs: The trainings, none of which has finished. What an earlier attempt has left in
            their folders is removed.
        jobs: Trainings at a time.
        threads: Threads of each.
    """
    waiting, running, failed = deque(runs), [], []
    done = 0
    with _ending_by_signals():
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(_start(waiting.popleft(), threads))
                time.sleep(0.1)
                for child in [c for c in running if c.process.poll() is not None]:
                    running.remove(child)
                    done += 1
                    try:
                        outcome = _finish(child, threads)
                    except ValueError as error:
                        outcome = str(error)
                        failed.append(child.run)
                    print(f'[{done}/{len(runs)}] {child.run.name}: {outcome}', flush=True)
        finally:
            for child in running:
                _end(child.process)
                print(f'{child.run.name}: ended, is run anew next time', flush=True)
    return failed


def _start(run: Run, threads: int) -> _Child:
    anew = run.folder.exists()
    if anew:
        shutil.rmtree(run.folder)
    run.folder.mkdir(parents=True)
    # a file rather than --cfg-options, which takes blanks and commas in a path apart
    cfg = Config(run.cfg.to_dict())
    cfg.merge_from_dict(
        {'randomness.seed': run.seed, 'val_evaluator.out_json': str(run.metrics)}
    )
    cfg.dump(run.folder / 'config.py')
    print(
        f'{run.name}: started{" anew, it had not finished" if anew else ""}; '
        f'threads: {threads}, log: {run.log}',
        flush=True,
    )
    commit = current_commit()
    command = [*TRAINER, str(run.folder / 'config.py'), '--work-dir', str(run.folder)]
    with open(run.log, 'wb') as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
            start_new_session=True,  # a group, which ends as one
        )
    return _Child(run, process, time.monotonic(), commit)


def _finish(child: _Child, threads: int) -> str:
    """Write the run.json of a training that has ended; what to say of it.

    Raises:
        ValueError: If it has failed; shows the end of its log.
    """
    run, status = child.run, child.process.returncode
    seconds = time.monotonic() - child.started
    try:
        if status:
            raise ValueError(f'exit status {status}')
        metrics = json.loads(run.metrics.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        lines = run.log.read_text(encoding='utf-8', errors='replace').splitlines()
        end = [f'FAILED ({error}), {run.log} ends:', *lines[-LOG_LINES:]]
        raise ValueError('\n    '.join(end)) from error
    write_json(
        str(run.folder / 'run.json'),
        dict(
            row=run.row,
            seed=run.seed,
            options=dict(run.options),
            metrics=metrics,
            commit=child.commit,
            duration_s=round(seconds, 1),
            threads=threads,
            settings=run.settings(),
        ),
    )
    figures = ', '.join(
        f'{name} {metrics[name]:.1f}'
        for name in ('seg/mIoU', 'lam/mIoU', 'cam/mIoU')
        if metrics.get(name) is not None
    )
    return f'{figures}; {seconds:.0f} s'


def _end(process: subprocess.Popen) -> None:
    """End a child and what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)


@contextlib.contextmanager
def _ending_by_signals() -> Iterator[None]:
    """Have SIGTERM and a closed terminal end the program as Ctrl-C does."""

    def end(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup it is ignored
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def current_commit() -> Optional[str]:
    """Commit of the checkout, '-dirty' with changes; None where there is no git."""
    command = ['git', 'describe', '--always', '--dirty', '--exclude=*', '--abbrev=40']
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() or None
