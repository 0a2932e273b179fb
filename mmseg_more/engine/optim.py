"""The optimizer's step in few launches; mixed precision, also where there is no GPU."""

import inspect
from contextlib import contextmanager
from typing import Dict, Iterator

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS
from torch import nn

from mmseg.registry import OPTIM_WRAPPERS

from .distributed import without_accelerator
from .type_name import type_name

# Only AmpOptimWrapper knows these
_SCALER_KEYS = ('loss_scale', 'use_fsdp')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, with few groups and the fused kernel.

    Where there is a ``paramwise_cfg`` the parent gives every parameter a group of its
    own, each of which the optimizer then steps alone. Here groups with equal settings
    become one; they are plain dicts, so that MMEngine's own ``compile=True`` need not
    trace through config objects. The optimizer's ``fused`` form is used where it has one
    for the model's device, unless the config says something about its form.

    Example:
        >>> optim_wrapper = dict(
        ...     type='OptimWrapper', constructor='MergedOptimWrapperConstructor',
        ...     optimizer=dict(type='AdamW', lr=6e-5),
        ...     paramwise_cfg=dict(custom_keys=dict(graph=dict(lr_mult=10.))))
    """

    optimizer_cfg: dict

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for the parameters of ``model``."""
        wrapper = self._build_fused(model)
        optimizer = wrapper.optimizer
        optimizer.param_groups[:] = _merged(optimizer.param_groups)
        return wrapper

    def _build_fused(self, model: nn.Module) -> OptimWrapper:
        plain = self.optimizer_cfg
        kind = plain['type']
        kind = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
        forms = {'fused', 'foreach', 'capturable', 'differentiable'}
        if 'fused' in inspect.signature(kind).parameters and not forms & set(plain):
            self.optimizer_cfg = dict(plain, fused=True)
            try:
                return super().__call__(model)
            except RuntimeError:  # none for this device in this PyTorch
                self.optimizer_cfg = plain
        return super().__call__(model)


def _merged(groups: list) -> list:
    """Groups with equal settings as one, in the order of their first parameters."""
    merged: Dict[tuple, dict] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        found = merged.setdefault(
            tuple(sorted((key, repr(value)) for key, value in settings.items())),
            dict(settings, params=[]),
        )
        found['params'].extend(group['params'])
    return list(merged.values())


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
        dtype: Type that autocast computes in, 'bfloat16' or 'float32' (which
            switches it off). Defaults to 'bfloat16'.
        **kwargs: As for ``OptimWrapper``.

    Raises:
        ValueError: If ``dtype`` is another.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs) -> None:
        if dtype not in ('bfloat16', 'float32'):
            raise ValueError(
                "mixed precision on the CPU needs dtype 'bfloat16' (or "
                f"'float32'), got {dtype!r}: float16 would need a loss "
                'scale, which PyTorch has for GPUs'
            )
        super().__init__(**kwargs)
        self.cast_dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast during the forward pass; gradient accumulation as in the parent."""
        enabled = self.cast_dtype is not torch.float32
        with (
            super().optim_context(model),
            torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled),
        ):
            yield


def enable_amp(cfg: Config) -> None:
    """Switch ``cfg.optim_wrapper`` to mixed precision: what ``--amp`` means.

    With an accelerator it becomes MMEngine's ``AmpOptimWrapper``, float16 with a dynamic
    loss scale unless ``optim_wrapper.dtype`` says otherwise; bfloat16 has the exponent
    of float32 and needs none, which saves the host a wait for the GPU. Without an
    accelerator it becomes :class:`CPUAmpOptimWrapper`.

    Raises:
        ValueError: If the config uses an optimizer wrapper of another kind.
    """
    wrapper = cfg.optim_wrapper
    kind = type_name(wrapper) or 'OptimWrapper'
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper'):
        raise ValueError(f'--amp goes with optim_wrapper.type OptimWrapper, got {kind}')
    if not without_accelerator():
        if kind != 'AmpOptimWrapper':
            wrapper.type = 'AmpOptimWrapper'
            scaled = wrapper.get('dtype') != 'bfloat16'
            wrapper.setdefault('loss_scale', 'dynamic' if scaled else dict(enabled=False))
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
    if type_name(wrapper) == 'AmpOptimWrapper' and without_accelerator():
        enable_amp(cfg)
