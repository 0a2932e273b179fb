"""What several hooks, and whoever changes the hooks of a config, need."""

from typing import Any, List, Mapping

from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn

from ..type_name import type_name

VALIDATED = 'loop/last_validation'
"""In the message hub, so in checkpoints: the iteration of the last validation. (MMEngine
logs what begins with 'train' or 'val'.)"""


def innermost(model: nn.Module, augmentation: bool = True) -> Any:
    """Return the model inside its wrappers.

    Args:
        model: The runner's model, wrapped or not.
        augmentation: Whether a model for test-time augmentation counts as a
            wrapper too. Defaults to True.
    """
    inner: Any = model  # whose `module` and other attributes nn.Module does not declare
    while is_model_wrapper(inner) or augmentation and isinstance(inner, BaseTTAModel):
        inner = inner.module
    return inner


def unwrap_model(model: nn.Module, attribute: str) -> Any:
    """Return the model inside its wrappers, checked to have ``attribute``.

    A hook writes on the model itself: on a wrapper (DistributedDataParallel)
    the attribute would be set without the model ever reading it. A model for
    test-time augmentation counts as a wrapper.

    Args:
        model: The runner's model, wrapped or not.
        attribute: Attribute that the caller is going to write.

    Raises:
        AttributeError: The model has no such attribute.
    """
    inner = innermost(model)
    if not hasattr(inner, attribute):
        raise AttributeError(
            f'{type(inner).__name__} has no attribute "{attribute}": the hook '
            'that writes it works with the segmentor "MoRe" (or a model that '
            'defines it). Use such a model or remove the hook from '
            '"default_hooks" or "custom_hooks".'
        )
    return inner


def has_test_time_augmentation(model: nn.Module) -> bool:
    """Whether the runner's model, wrapped or not, merges several views of an image."""
    return isinstance(innermost(model, augmentation=False), BaseTTAModel)


def trains(runner: Runner) -> bool:
    """Whether the runner was asked for a training, not for a test or a validation."""
    return isinstance(runner._train_loop, BaseLoop)  # a config until it is built


def find_hooks(cfg: Config, *types: str) -> List[Mapping[str, Any]]:
    """Configs of the hooks of some types.

    Args:
        cfg: Complete config.
        types: Registry names, such as 'LocalizationHook'.

    Returns:
        Those of ``default_hooks``, then those of ``custom_hooks``.
    """
    default = [hook for hook in (cfg.get('default_hooks') or {}).values() if hook]
    return [
        hook
        for hook in (*default, *(cfg.get('custom_hooks') or ()))
        if type_name(hook) in types
    ]


def remove_hooks(cfg: Config, *types: str) -> None:
    """Take the hooks of some types out of ``default_hooks`` and ``custom_hooks``.

    Args:
        cfg: Complete config; changed.
        types: Registry names.
    """
    default = cfg.get('default_hooks') or {}
    for key in [key for key, hook in default.items() if hook and type_name(hook) in types]:
        del default[key]
    custom = cfg.get('custom_hooks') or ()
    kept = [hook for hook in custom if type_name(hook) not in types]
    if len(kept) < len(custom):
        cfg.custom_hooks = kept


def add_hook(cfg: Config, hook: Mapping[str, Any]) -> None:
    """Put a hook last in ``custom_hooks``.

    Args:
        cfg: Complete config; changed.
        hook: Its config.
    """
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or ()), dict(hook)]
