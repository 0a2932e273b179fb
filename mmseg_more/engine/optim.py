"""Automatic mixed precision, also where there is no GPU."""
from contextlib import contextmanager
from typing import Iterator

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS
from torch import nn

from .distributed import without_accelerator

# Only AmpOptimWrapper knows these
_SCALER_KEYS = ('loss_scale', 'use_fsdp')


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Train in bfloat16 on the CPU.

    MMEngine's ``AmpOptimWrapper`` asks for an accelerator. bfloat16 has the exponent
    range of float32, so that, unlike float16, no loss scale is needed.

    Example:
        >>> optim_wrapper = dict(
        ...     type='CPUAmpOptimWrapper', dtype='bfloat16',
        ...     optimizer=dict(type='AdamW', lr=6e-5))

    Args:
        dtype (str): Type that autocast computes in, 'bfloat16' or 'float32' (which
            switches it off). Defaults to 'bfloat16'.
        **kwargs: As for ``OptimWrapper``.

    Raises:
        ValueError: If ``dtype`` is another.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs) -> None:
        if dtype not in ('bfloat16', 'float32'):
            raise ValueError("mixed precision on the CPU needs dtype 'bfloat16' (or "
                             f"'float32'), got {dtype!r}: float16 would need a loss "
                             'scale, which PyTorch has for GPUs')
        super().__init__(**kwargs)
        self.cast_dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast during the forward pass; gradient accumulation as in the parent."""
        enabled = self.cast_dtype is not torch.float32
        with super().optim_context(model), torch.autocast(
                'cpu', dtype=torch.bfloat16, enabled=enabled):
            yield


def enable_amp(cfg: Config) -> None:
    """Switch ``cfg.optim_wrapper`` to mixed precision: what ``--amp`` means.

    With an accelerator it becomes MMEngine's ``AmpOptimWrapper`` with a dynamic loss
    scale, float16 unless ``optim_wrapper.dtype`` says otherwise; without one,
    :class:`CPUAmpOptimWrapper`.

    Raises:
        ValueError: If the config uses an optimizer wrapper of another kind.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper'):
        raise ValueError(f'--amp goes with optim_wrapper.type OptimWrapper, got {kind}')
    if not without_accelerator():
        if kind != 'AmpOptimWrapper':
            wrapper.type = 'AmpOptimWrapper'
            wrapper.setdefault('loss_scale', 'dynamic')
        return
    wrapper.type = 'CPUAmpOptimWrapper'
    for key in _SCALER_KEYS:
        wrapper.pop(key, None)
    if wrapper.get('dtype') == 'float16':
        print_log('float16 needs a GPU: training in bfloat16 instead', logger='current')
        wrapper.dtype = 'bfloat16'


def adapt_amp(cfg: Config) -> None:
    """Let a config that asks for ``AmpOptimWrapper`` run without an accelerator."""
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('type') == 'AmpOptimWrapper' and without_accelerator():
        enable_amp(cfg)
