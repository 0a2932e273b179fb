"""Ends a training that is told to end, after a checkpoint."""

import functools
import os
import shlex
import signal
import sys
import threading
import time
from typing import Any, Dict, NoReturn, Optional, Tuple

from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner

from mmseg.registry import HOOKS

from ..distributed import HostVote
from .checkpoint_hook import CheckpointHook
from .utils import VALIDATED

SIGNALS = tuple(
    getattr(signal, name)
    for name in ('SIGTERM', 'SIGUSR1', 'SIGINT')
    if hasattr(signal, name)
)
_WORKER_ENDED = getattr(signal, 'SIGCHLD', None)
_SECONDS_OF_ONE_INTERRUPT = 1.0  # a terminal and torchrun may both send it
_SECONDS_TO_HEAR = 1.0  # between a worker's signal and this process's


@HOOKS.register_module()
class SignalHook(Hook):
    """Answer SIGTERM, SIGUSR1 and Ctrl-C with a checkpoint and a clean end.

    The current iteration is finished, a checkpoint is saved by ``CheckpointHook``, and a
    line says how to go on. The exit status is 128 + the number of the signal, as shells
    have it: 143, 138 and 130. A second Ctrl-C ends at once, without a checkpoint.

    * While this process waits for data there is no iteration to finish: it ends at once.
    * In a validation, a single process ends after the current batch, and a resumed training
      does it anew. Several processes end after the validation.
    * After the last iteration and validation, while masks are made of the result, say, it
      ends at once: there is nothing to save.
    * Several processes agree on the iteration: each asks the others after each one, on the
      host (:class:`~mmseg_more.engine.distributed.HostVote`). The signal may go to one of
      them or to all.
    * Slurm sends its signals to the workers of the data loaders too, which die of it. A
      single process saves all the same. Several do unless one of them is waiting for data.

    Slurm: ``#SBATCH --signal=USR1@300`` sends SIGUSR1 300 seconds before the time is up.

    Example:
        >>> default_hooks = dict(signals=dict(type='SignalHook'))
    """

    priority = 'LOWEST'  # all others have seen the iteration, CheckpointHook included

    def __init__(self) -> None:
        self._runner: Optional[Runner] = None
        self._vote: Optional[HostVote] = None
        self._owner = os.getpid()
        self._received = 0
        self._since = 0.0
        self._start = self._num_done = 0  # iterations
        self._is_idle = False  # the weights are those after `_num_done` iterations
        self._is_over = False  # what follows is no part of the training
        self._before: Dict[int, Any] = {}

    # ---------------------------------------------------------------- the signals

    def before_run(self, runner: Runner) -> None:
        """See to it that nobody listens after the training, however it ends.

        A training that fails calls no hook, and the process may go on, as a notebook does.
        """
        loop = runner._train_loop  # the property would build one for a test
        if not isinstance(loop, BaseLoop):
            return
        train = loop.run

        @functools.wraps(train)
        def train_and_stop_listening() -> Any:
            try:
                return train()
            finally:
                self._stop_listening()

        loop.run = train_and_stop_listening

    def before_train(self, runner: Runner) -> None:
        """Listen from now on."""
        self._runner, self._vote, self._received = runner, HostVote(), 0
        self._owner, self._start = os.getpid(), runner.iter
        self._num_done, self._is_over = self._start, False
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning(
                'SignalHook: this training runs in a thread, where Python has no signals.'
            )
            return
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._receive)
        if _WORKER_ENDED and callable(signal.getsignal(_WORKER_ENDED)):
            before = signal.signal(_WORKER_ENDED, self._worker_ended)
            if before != self._worker_ended:  # it stays after an end by a signal
                self._before[_WORKER_ENDED] = before  # PyTorch's, of its data loaders
        self._is_idle = isinstance(runner.train_loop, IterBasedTrainLoop)

    def _stop_listening(self) -> None:
        self._is_idle = False
        # Workers that the signal has reached die when they get to it, until this process
        # has ended. In one that goes on PyTorch finds out when it waits for a worker.
        kept = {_WORKER_ENDED} if self._received else set()
        for number, handler in self._before.items():
            if handler is not None and number not in kept:
                signal.signal(number, handler)
        self._before = {n: h for n, h in self._before.items() if n in kept}
        self._runner = None

    def _receive(self, number: int, frame: Any) -> None:
        if os.getpid() != self._owner:
            return  # a worker, forked later: it ends with this process
        now = time.monotonic()
        if self._received == number == signal.SIGINT:
            if now - self._since > _SECONDS_OF_ONE_INTERRUPT:
                raise KeyboardInterrupt
            return
        if self._received:
            return
        self._received, self._since = number, now
        name = signal.Signals(number).name
        if self._is_over:
            os.write(2, f'\n{name}: ending. The training is done and saved.\n'.encode())
            raise SystemExit(128 + number)
        hint = ' Ctrl-C once more: at once.' if number == signal.SIGINT else ''
        # not by print or a logger, which may be what was interrupted
        os.write(2, f'\n{name}: ending after this iteration.{hint}\n'.encode())
        if self._is_idle and get_world_size() == 1:
            self._end(number)

    def _worker_ended(self, number: int, frame: Any) -> None:
        """PyTorch's answer to the end of a worker, unless all of the job is to end."""
        if self._received:
            return  # workers that the signal has reached too are not missed any more
        try:
            self._before[number](number, frame)
        except RuntimeError:
            time.sleep(_SECONDS_TO_HEAR)  # a signal of this process comes in here
            if not self._received:
                raise

    # ------------------------------------------------------------------- the end

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """The data are there."""
        self._is_idle = False

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """End, if any process was told to."""
        self._num_done = runner.iter + 1
        self._end_if_told()
        self._is_idle = (
            isinstance(runner.train_loop, IterBasedTrainLoop)
            and self._num_done < runner.max_iters
        )
        if self._received and self._is_idle and get_world_size() == 1:
            self._end(self._received)  # it came in during the last lines

    def before_val(self, runner: Runner) -> None:
        """EMAHook changes the weights from here on."""
        self._is_idle = self._is_over = False

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """End in a validation, if this is the only process."""
        if not self._received or get_world_size() > 1 or self._runner is None:
            return
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.after_val_epoch(runner)  # its averages go back
        runner.message_hub.update_info(VALIDATED, None)  # a resumed training does it
        self._end(self._received)

    def after_val_epoch(
        self, runner: Runner, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """End after a validation, if any process was told to."""
        if self._runner is not None:
            self._end_if_told()
            self._is_over = self._is_done(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """End after the last iteration, if any process was told to."""
        if self._is_done(runner):
            self._end_if_told()
            self._is_over = True

    def _is_done(self, runner: Runner) -> bool:
        """Whether no iteration follows."""
        stopped = getattr(runner.train_loop, 'stop_training', False)  # by a hook
        return stopped or self._num_done >= runner.max_iters

    def _end_if_told(self) -> None:
        number = self._ask(self._received)
        if number:
            self._end(number)

    def _ask(self, number: int) -> int:
        return self._vote.highest(number) if self._vote else number

    def _end(self, number: int) -> NoReturn:
        """Save, say how to go on, and leave Python."""
        runner = self._runner
        assert runner is not None
        self._is_idle = False
        saver = next((h for h in runner.hooks if isinstance(h, CheckpointHook)), None)
        if saver is None:
            saved = 'nothing is saved: there is no CheckpointHook in default_hooks'
        elif self._num_done == self._start:
            saved = 'nothing is saved: this run has not finished any'
        else:
            saved = f'the checkpoint is {saver.save_now(runner, self._num_done)}'
            # torchrun ends all processes when the first is gone: they go together
            self._ask(0)
        runner.logger.warning(
            f'{signal.Signals(number).name}: ended after iteration {self._num_done}; '
            f'{saved}. To go on: {resume_command()}'
        )
        raise SystemExit(128 + number)


def resume_command() -> str:
    """The command that goes on with what this process is doing."""
    parts: Tuple[str, ...] = ('python', *sys.argv)
    if get_world_size() > 1 and 'LOCAL_WORLD_SIZE' in os.environ:
        parts = ('torchrun', '--nproc_per_node', os.environ['LOCAL_WORLD_SIZE'], *sys.argv)
    if '--resume' not in parts:
        parts = (*parts, '--resume')
    return shlex.join(parts)
