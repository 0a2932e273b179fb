"""Lets float32 products run in TF32 on GPUs that have it."""

from typing import NamedTuple, Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg.registry import HOOKS


class TF32Flags(NamedTuple):
    """PyTorch's switches, of the whole process."""

    matmul: bool
    """Matrix products, which a ViT consists of."""
    conv: bool
    """Convolutions: the patch embedding and the heads."""

    @classmethod
    def current(cls) -> 'TF32Flags':
        """As they are."""
        return cls(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)

    def apply(self) -> None:
        """Set them."""
        torch.backends.cuda.matmul.allow_tf32 = self.matmul
        torch.backends.cudnn.allow_tf32 = self.conv


@HOOKS.register_module()
class TF32Hook(Hook):
    """Set PyTorch's TF32 switches during a run, in training and testing.

    On NVIDIA GPUs from Ampere on, TF32 rounds the factors of float32 products to 10 bits
    of mantissa and is several times as fast. PyTorch's own default is TF32 in
    convolutions and float32 in matrix products, so that a ViT gains nothing; MMEngine has
    no switch. ``TF32Hook(matmul=False, conv=False)`` is float32 throughout. Elsewhere the
    switches have no effect.

    Example:
        >>> # any name does; or: --cfg-options default_hooks.tf32.type=TF32Hook
        >>> default_hooks = dict(tf32=dict(type='TF32Hook'))

    Args:
        matmul: Whether matrix products may use TF32. Defaults to True.
        conv: Whether convolutions may use TF32. Defaults to True.
    """

    priority = 'VERY_HIGH'

    def __init__(self, matmul: bool = True, conv: bool = True) -> None:
        self.flags = TF32Flags(matmul, conv)
        self._before: Optional[TF32Flags] = None

    def before_run(self, runner: Runner) -> None:
        """Set the switches."""
        self._before = TF32Flags.current()
        self.flags.apply()
        runner.logger.info(f'TF32Hook: {self.flags}, before {self._before}.')

    def after_run(self, runner: Runner) -> None:
        """Set them back."""
        if self._before is not None:
            self._before.apply()
