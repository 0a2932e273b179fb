"""Stops a training whose loss is not finite, before that is saved."""

import math
from typing import Any, Dict, Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg.registry import HOOKS

from ..distributed import HostVote
from .utils import innermost


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop at a loss that is NaN or infinite, and never save weights that are.

    MMEngine trains on, with NaN in every weight, to the end. Here the first loss that is
    not finite ends the training in its own iteration, in all processes.

    In float16 with a loss scale (``AmpOptimWrapper``) a loss that overflows spoils no
    weight: PyTorch's scaler leaves such a step out and lowers the scale. There it takes
    ``max_skipped`` of them in a row. Steps that the scaler skips for gradients alone, as
    while it finds its scale, do not count: their loss is finite.

    The weights are looked at whenever a checkpoint is saved, the best one included: a
    gradient can be NaN where the loss is not. The averages of EMAHook are looked at too.

    The losses are read once in an iteration, by one copy to the host. It waits for nothing:
    MMEngine's RuntimeInfoHook has just read each of them for the log. Several processes
    also ask each other (:class:`~mmseg_more.engine.distributed.HostVote`).

    Args:
        max_skipped: How many steps in a row may have a loss that is not finite, where
            a loss scaler leaves such steps out. Defaults to 10.

    Raises:
        FloatingPointError: In training; names the first loss that was not finite, and the
            images of its batch, or the weight.

    Example:
        >>> default_hooks = dict(finite_loss=dict(type='FiniteLossHook'))
    """

    priority = 'ABOVE_NORMAL'  # after RuntimeInfoHook, before CheckpointHook and EMAHook

    def __init__(self, max_skipped: int = 10) -> None:
        if max_skipped < 0:
            raise ValueError(f'max_skipped must be at least 0, got {max_skipped}')
        self.max_skipped = max_skipped
        self._vote: Optional[HostVote] = None
        self._first: Optional[str] = None  # the first of the bad losses in a row
        self._num_bad = 0

    def before_train(self, runner: Runner) -> None:
        """Meet the other processes."""
        self._vote = HostVote()
        self._first, self._num_bad = None, 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[Dict[str, torch.Tensor]] = None,
    ) -> None:
        """Read the losses."""
        bad = _first_not_finite(outputs or {})
        if bad is None:
            self._first, self._num_bad = None, 0
        else:
            self._num_bad += 1
            self._first = self._first or (
                f'{bad} in iteration {runner.iter + 1}{_images_of(data_batch)}'
            )
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        allowed = self.max_skipped if scaler is not None and scaler.is_enabled() else 0
        fatal = self._num_bad > allowed
        if self._vote is not None and self._vote.highest(int(fatal)):
            first = self._first or 'a loss of another process was not finite'
            raise FloatingPointError(
                f'the training is stopped: {first}. Nothing is saved since; see '
                '"The training loss is NaN" in docs/questions.md for causes'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the weights."""
        model = innermost(runner.model, augmentation=False)
        names = {name for name, _ in model.named_parameters()}
        for section in ('state_dict', 'ema_state_dict'):
            for key, value in checkpoint.get(section, {}).items():
                name = key[len('module.') :] if section == 'ema_state_dict' else key
                if name in names and not torch.isfinite(value).all():
                    raise FloatingPointError(
                        f'the training is stopped: the weight {name} is not finite after '
                        f'iteration {checkpoint["meta"]["iter"]}, and is not saved; see '
                        '"The training loss is NaN" in docs/questions.md for causes'
                    )


def _first_not_finite(outputs: Dict[str, torch.Tensor]) -> Optional[str]:
    """Name and value of the first loss that is not finite; the sum only if it is alone."""
    # MMEngine puts the sum, `loss`, first
    losses = {
        name: value.detach().float()
        for name, value in outputs.items()
        if 'loss' in name and torch.is_tensor(value)
    }
    if not losses:
        return None
    values = torch.stack(list(losses.values())).tolist()
    bad = [
        f'{name} was {value}'
        for name, value in zip(losses, values)
        if not math.isfinite(value)
    ]
    terms = [text for text in bad if not text.startswith('loss was ')]
    return next(iter(terms or bad), None)


def _images_of(data_batch: Any) -> str:
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    paths = [getattr(sample, 'img_path', None) for sample in samples or ()]
    known = [str(path) for path in paths if path]
    return f' (images: {", ".join(known)})' if known else ''
