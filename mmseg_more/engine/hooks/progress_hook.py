"""How far a validation or a test is."""

import time
from datetime import timedelta
from typing import Any, Optional, Sequence, Union

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Say in the log how far a validation or a test is, and how long it will take.

    MMEngine's LoggerHook writes a line every 50 batches, of which a small data set on a CPU
    may have fewer than it takes minutes. Trainings are left to it.

    Args:
        seconds: Time between two lines, above 0. Defaults to 10.

    Example:
        >>> default_hooks = dict(progress=dict(type='ProgressHook'))
    """

    priority = 'VERY_LOW'

    def __init__(self, seconds: float = 10.0) -> None:
        if seconds <= 0:
            raise ValueError(f'seconds must be above 0, got {seconds}')
        self.seconds = seconds
        self._start = self._last = 0.0

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        self._start = self._last = time.monotonic()

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[Union[Sequence, dict]] = None,
        mode: str = 'train',
    ) -> None:
        if mode == 'train':
            return
        now = time.monotonic()
        loop = runner.val_loop if mode == 'val' else runner.test_loop
        done, total = batch_idx + 1, len(loop.dataloader)
        if now - self._last < self.seconds or done == total:
            return
        self._last = now
        left = timedelta(seconds=round((now - self._start) / done * (total - done)))
        runner.logger.info(f'{mode}: {done} of {total} batches, {left} left')
