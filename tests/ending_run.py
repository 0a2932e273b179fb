"""Trainings that are told to end, in processes of their own.

Registers hooks that tests put into a tiny training; other processes import it.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmseg_more.engine.distributed import HostVote

from mmseg.registry import HOOKS

ROOT = Path(__file__).resolve().parent.parent


@HOOKS.register_module()
class Send(Hook):
    """Send signals to this process after an iteration (counted from 1) or validation."""

    def __init__(self, number, iteration=None, in_validation=False):
        self.number, self.iteration = number, iteration
        self.in_validation = in_validation

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.in_validation:
            os.kill(os.getpid(), self.number)


@HOOKS.register_module()
class Slow(Hook):
    """Make each iteration last, and write into WORK_DIR/rankN how many there were.

    Of a test they are its batches.
    """

    def __init__(self, seconds=0.05):
        self.seconds = seconds

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.note(runner, runner.iter + 1)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.note(runner, batch_idx + 1)

    def note(self, runner, count):
        time.sleep(self.seconds)
        state = f'{os.getpid()} {count}'
        target = Path(runner.work_dir, f'rank{get_rank()}')
        target.with_suffix('.new').write_text(state)
        target.with_suffix('.new').replace(target)


@HOOKS.register_module()
class Spoil(Hook):
    """Make a weight NaN after an iteration (counted from 1), as a gradient would."""

    priority = 'VERY_HIGH'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            with torch.no_grad():
                next(runner.model.parameters()).view(-1)[0] = float('nan')


def progress(work_dir, rank=0):
    """Process and iterations of a rank, by the hook `Slow`."""
    path = Path(work_dir, f'rank{rank}')
    if not path.is_file():
        return None, 0
    pid, count = path.read_text().split()
    return int(pid), int(count)


def start(arguments, folder, **env):
    """Start Python as the leader of a process group; what it says goes to FOLDER/out."""
    paths = [str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]
    with open(Path(folder, 'out'), 'w') as out:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env=dict(
                os.environ, PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS='1', **env
            ),
            # a shell that starts its jobs in the background has them ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def wait_for(condition, seconds=300):
    """Wait until something is so; fails if it takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it took too long'
        time.sleep(0.02)


def group_members(group):
    """Processes of a group that have not ended."""
    members = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = stat.read_text().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != 'Z':
            members.append(int(stat.parent.name))
    return members


def vote(rank, folder):
    """One of two processes; only the second one has a loss that is not finite."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2
    )
    assert HostVote().highest(rank * 7) == 7
    hook = HOOKS.build(dict(type='FiniteLossHook'))
    runner = SimpleNamespace(iter=0, optim_wrapper=SimpleNamespace())
    hook.before_train(runner)
    said = 'nothing'
    for index, value in enumerate([1.0, float('nan') if rank else 2.0, 3.0]):
        runner.iter = index
        try:
            hook.after_train_iter(runner, index, None, dict(loss_seg=torch.tensor(value)))
        except FloatingPointError as error:
            said = f'{index}: {error}'
            break
    (folder / str(rank)).write_text(said)
    torch.distributed.destroy_process_group()
