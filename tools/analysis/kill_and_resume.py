"""Does a training that is killed and resumed end with the same bits as one that is not?

    python tools/analysis/kill_and_resume.py CONFIG --work-dir work_dirs/kills --kills 20
    python tools/analysis/kill_and_resume.py CONFIG --work-dir work_dirs/kills \
        --processes 2 --amp --cfg-options train_cfg.max_iters=100

It trains CONFIG without a break into WORK_DIR/whole, and again into WORK_DIR/killed. There
SIGKILL ends all processes of the training --kills times, each at a random moment within
a second of the first checkpoint since the last kill, and --resume goes on. Then the last
checkpoints are compared: weights, optimizer, schedulers, all logged values of each
iteration, and what hooks remember. On a CPU nothing differs; on a GPU PyTorch promises as
much with randomness.deterministic=True alone.

The exit status is 0 if nothing differs, and 1 if something does.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch

from mmseg_more.engine.command_line import CommandParser, command

TRAIN = Path(__file__).resolve().parent.parent / 'train.py'
# Entries of MMEngine's message hub that differ between two trainings: names, paths, times
VARYING = ('cfg', 'experiment_name', 'last_ckpt', 'best_ckpt', 'loop_stage', 'eta')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='train config file path')
    parser.add_argument('--work-dir', required=True, type=Path, help='an empty folder')
    parser.add_argument('--kills', type=int, default=20, help='kills (default: 20)')
    parser.add_argument('--interval', type=int, default=2, help='checkpoints (default: 2)')
    parser.add_argument('--processes', type=int, default=1, help='ranks (default: 1)')
    parser.add_argument(
        '--seed', type=int, default=0, help='of the trainings and the moments (default: 0)'
    )
    parser.add_argument('--amp', action='store_true', help='as for tools/train.py')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='as for tools/train.py'
    )
    args = parser.parse_args(argv)
    if args.work_dir.exists() and any(args.work_dir.iterdir()):
        parser.error(f'{args.work_dir} is not empty: name another folder')
    return args


class Training:
    """The processes of tools/train.py with the arguments of the command line."""

    def __init__(self, args: argparse.Namespace, folder: Path, resume: bool) -> None:
        command = [sys.executable, str(TRAIN), args.config, '--work-dir', str(folder)]
        command += ['--resume'] * resume + ['--amp'] * args.amp
        command += ['--launcher', 'pytorch'] * (args.processes > 1)
        interval = f'default_hooks.checkpoint.interval={args.interval}'
        seed = f'randomness.seed={args.seed}'  # without one, each training takes its own
        command += ['--cfg-options', 'default_hooks.logger.interval=1', interval, seed]
        command += args.cfg_options
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / 'output.txt'
        ranks = [dict(os.environ, LOCAL_RANK='0')]
        if args.processes > 1:
            ranks = _rank_environments(args.processes)
        with self.log.open('a') as log:
            self.processes = [
                # of a group of its own, so that loader workers can be ended with it
                subprocess.Popen(
                    command, stdout=log, stderr=log, env=rank, start_new_session=True
                )
                for rank in ranks
            ]

    def runs(self) -> bool:
        """Whether any process does. Raises ChildProcessError if one has failed."""
        states = [process.poll() for process in self.processes]
        if any(state for state in states):
            self.kill()
            raise ChildProcessError(f'the training has failed: see {self.log}')
        return None in states

    def kill(self) -> None:
        """End all processes, and those of their loaders, as the system would."""
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def _rank_environments(count: int) -> List[Dict[str, str]]:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    common = dict(
        os.environ, MASTER_ADDR='127.0.0.1', MASTER_PORT=port, WORLD_SIZE=str(count)
    )
    return [dict(common, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count)]


def train_whole(args: argparse.Namespace) -> None:
    """Train without a break."""
    training = Training(args, args.work_dir / 'whole', resume=False)
    try:
        while training.runs():
            time.sleep(0.1)
    finally:
        training.kill()


def train_killed(args: argparse.Namespace) -> int:
    """Train with kills; returns how many there were."""
    rng, folder, kills = random.Random(args.seed), args.work_dir / 'killed', 0
    while True:
        training = Training(args, folder, resume=kills > 0)
        try:
            if kills == args.kills or not _wait_for_checkpoint(training, folder):
                while training.runs():
                    time.sleep(0.1)
                return kills
            time.sleep(rng.uniform(0, 1))
            kills += training.runs()
        finally:
            training.kill()


def _wait_for_checkpoint(training: Training, folder: Path) -> bool:
    """Wait for a new checkpoint; False if the training ends before one."""
    before = _newest_iteration(folder)
    while training.runs():
        if _newest_iteration(folder) > before:
            return True
        time.sleep(0.01)
    return False


def _newest_iteration(folder: Path) -> int:
    return max((int(path.stem[5:]) for path in folder.glob('iter_*.pth')), default=0)


def read_state(folder: Path) -> Dict[str, Any]:
    """What two trainings have in common in their last checkpoints, by names."""
    path = folder / f'iter_{_newest_iteration(folder)}.pth'
    # written by this script's own training
    checkpoint = torch.load(path, map_location='cpu', weights_only=False)
    hub = checkpoint['message_hub']
    groups = dict(
        weights=checkpoint['state_dict'],
        optimizer=checkpoint['optimizer'],
        schedulers=checkpoint.get('param_schedulers'),
        logged={
            name: buffer.data[0].tolist()
            for name, buffer in hub['log_scalars'].items()
            if 'time' not in name and 'memory' not in name
        },
        remembered={k: v for k, v in hub['runtime_info'].items() if k not in VARYING},
        iteration=checkpoint['meta']['iter'],
    )
    return dict(_leaves('', groups))


def _leaves(name: str, value: Any) -> List[Any]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return [(name, value)]
    return [leaf for key, part in items for leaf in _leaves(f'{name}/{key}', part)]


def differing(state: Dict[str, Any], other: Dict[str, Any]) -> List[str]:
    """Names of what is not the same, bit for bit."""
    return [
        name
        for name in sorted(state.keys() | other.keys())
        if name not in state or name not in other or not _same(state[name], other[name])
    ]


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(value.nan_to_num(), other.nan_to_num())
    return repr(value) == repr(other)


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    train_whole(args)
    kills = train_killed(args)
    state = read_state(args.work_dir / 'whole')
    names = differing(state, read_state(args.work_dir / 'killed'))
    print(f'{kills} kills: {len(names)} of {len(state)} entries differ.')
    for name in names[:20]:
        print(f'  {name}')
    return 1 if names or kills < args.kills else 0


if __name__ == '__main__':
    sys.exit(main())
