"""LoRA: additions of low rank to linear layers, trained in the place of their weights."""

import re
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence

import torch
from mmpretrain.models.peft.lora import LoRALinear
from torch import Tensor, nn


class LoRAOptions(NamedTuple):
    """Which layers get an addition, and of which rank (Hu et al., ICLR 2022).

    ``y = W x + b + (alpha / rank) B A x``, of which A ``(rank, in)`` and B ``(out, rank)``
    are trained. B starts from 0, so that the layer starts as it was.
    """

    rank: int
    """Rows of A, at least 1."""
    alpha: Optional[float] = None
    """Factor of the addition, times the rank. None: ``rank``, a factor of 1."""
    drop_rate: float = 0.0
    """Dropout before A."""
    targets: Sequence[str] = ('attn.qkv',)
    """Linear layers by their names in the backbone (``layers.11.attn.qkv``), each an ending
    of names or a regular expression for the whole of them, as in mmpretrain."""


def lora_options(settings: Mapping) -> LoRAOptions:
    """Check the options of a config.

    Raises:
        ValueError: For an unknown key, or a rank, drop rate or targets that cannot be.
    """
    unknown = sorted(set(settings) - set(LoRAOptions._fields))
    if unknown or 'rank' not in settings:
        raise ValueError(
            f'backbone.lora takes {", ".join(LoRAOptions._fields)} and needs rank, got '
            f'{dict(settings)}'
        )
    options = LoRAOptions(**settings)
    if options.rank < 1:
        raise ValueError(f'backbone.lora.rank must be at least 1, got {options.rank}')
    if not 0 <= options.drop_rate < 1:
        raise ValueError(
            f'backbone.lora.drop_rate must be in [0, 1), got {options.drop_rate}'
        )
    if isinstance(options.targets, str):
        raise ValueError(
            f'backbone.lora.targets must be a list of names, got {options.targets!r}'
        )
    return options


def add_lora(module: nn.Module, options: LoRAOptions) -> None:
    """Put additions to the linear layers of ``module`` that ``options`` name.

    Names of their weights get ``original_layer`` before the last part; plain state dicts
    are loaded all the same.

    Raises:
        ValueError: If a target names no linear layer.
    """
    linear = [name for name, m in module.named_modules() if isinstance(m, nn.Linear)]
    chosen = set()
    for target in options.targets:
        fitting = [n for n in linear if n.endswith(target) or re.fullmatch(target, n)]
        if not fitting:
            raise ValueError(
                f'backbone.lora.targets: {target!r} names no linear layer, there are such '
                f'as {", ".join(linear[:4])}'
            )
        chosen.update(fitting)
    for name in filter(chosen.__contains__, linear):
        parent, _, child = name.rpartition('.')
        layer = LoRALinear(
            module.get_submodule(name),
            alpha=options.rank if options.alpha is None else options.alpha,
            rank=options.rank,
            drop_rate=options.drop_rate,
        )
        layer.register_load_state_dict_pre_hook(_take_plain_names)
        setattr(module.get_submodule(parent), child, layer)


def merge_lora(module: nn.Module) -> None:
    """Make each layer with an addition the plain linear layer that computes the same."""
    found = [(name, m) for name, m in module.named_modules() if isinstance(m, LoRALinear)]
    for name, layer in found:
        parent, _, child = name.rpartition('.')
        original = original_layer(layer)
        original.weight.data = merged_weight(layer).detach()
        setattr(module.get_submodule(parent), child, original)


def original_layer(layer: Any) -> Any:
    """The linear layer itself, without an addition."""
    return layer.original_layer if isinstance(layer, LoRALinear) else layer


def merged_weight(layer: Any) -> Tensor:
    """What a linear layer multiplies by, its addition included, ``(out, in)``."""
    weight = original_layer(layer).weight
    if not isinstance(layer, LoRALinear):
        return weight
    with torch.autocast(weight.device.type, enabled=False):
        return weight + layer.scaling * (layer.lora_up.weight @ layer.lora_down.weight)


def plain_names(state_dict: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """A state dict in the names that it has without LoRA, additions left out."""
    return {
        name.replace('.original_layer.', '.'): value
        for name, value in state_dict.items()
        if '.lora_' not in name
    }


def _take_plain_names(
    layer: nn.Module, state_dict: Dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Rename, before a layer is loaded, what a state dict without LoRA holds."""
    for name in ('weight', 'bias'):
        if prefix + name in state_dict:
            state_dict[f'{prefix}original_layer.{name}'] = state_dict.pop(prefix + name)
