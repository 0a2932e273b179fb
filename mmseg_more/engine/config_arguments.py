"""Keys of a config's parts, compared with the arguments of what is built from them."""

import collections.abc
import importlib.util
import inspect
import typing
from inspect import Parameter
from typing import (
    Any,
    Callable,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

import mmengine.registry
from mmengine.hooks import Hook
from mmengine.model import BaseInit
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import Registry
from mmengine.runner import BaseLoop, LogProcessor, TestLoop, ValLoop, set_random_seed
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

import mmseg.registry
from mmseg.datasets.transforms import Albu

from ..localization import PAROptions
from ..models import MoRe, MoReViT
from ..models.backbones.lora import LoRAOptions
from ..models.loss_schedule import DEFAULT_LOSSES
from ..models.segmentors.localizer import Localizer
from ..models.segmentors.training_labels import TrainingLabeler
from ..models.text_classifier import TextClassifierOptions
from ..registry import SCOPES
from .spelling import closest

Part = Callable[..., Any]

# What the Runner builds, in the order in which a reader goes through a config
SECTIONS = (
    'model',
    'data_preprocessor',
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'train_cfg',
    'val_cfg',
    'test_cfg',
    'optim_wrapper',
    'param_scheduler',
    'val_evaluator',
    'test_evaluator',
    'default_hooks',
    'custom_hooks',
    'log_processor',
    'visualizer',
    'randomness',
    'model_wrapper_cfg',
    'tta_model',
    'tta_pipeline',
)
EITHER = frozenset(('param_scheduler', 'val_evaluator', 'test_evaluator'))
# Dicts without a type, by their path
UNTYPED: Mapping[str, Part] = {
    'train_dataloader': DataLoader,
    'val_dataloader': DataLoader,
    'test_dataloader': DataLoader,
    'val_cfg': ValLoop,
    'test_cfg': TestLoop,
    'log_processor': LogProcessor,
    'randomness': set_random_seed,
}
CLIP_GRAD = 'optim_wrapper.clip_grad'
"""Its type is 'norm' or 'value'."""
# Dicts without a type, by what takes them and as which argument
UNTYPED_ARGUMENTS: Mapping[Tuple[Part, str], Part] = {
    (MoRe, 'localization'): Localizer,
    (MoRe, 'pseudo_label'): TrainingLabeler,
    (MoRe, 'text_classifier'): TextClassifierOptions,
    (TrainingLabeler, 'par'): PAROptions,
    (MoReViT, 'lora'): LoRAOptions,
}
# Arguments with types of another package, which looks them up by itself
FOREIGN = frozenset(((Albu, 'transforms'),))  # albumentations
# Keys that are taken out before the rest is handed on
TAKEN_OUT: Tuple[Tuple[type, FrozenSet[str]], ...] = (
    (Hook, frozenset(('priority',))),
    (_ParamScheduler, frozenset(('convert_to_iter_based', 'epoch_length'))),
    (OptimWrapper, frozenset(('paramwise_cfg', 'constructor'))),
    (BaseLoop, frozenset(('by_epoch',))),
    (DataLoader, frozenset(('num_batch_per_epoch',))),
    (BaseInit, frozenset(('layer', 'override'))),
)
# Types of arguments, and what may stand for them in a config
PLAIN: Mapping[Any, Tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    dict: (collections.abc.Mapping,),
    collections.abc.Mapping: (collections.abc.Mapping,),
    list: (list, tuple),
    tuple: (list, tuple),
    collections.abc.Sequence: (list, tuple, str),
    type(None): (type(None),),
}
DEFAULT_HOOKS = frozenset(
    ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
)
"""Hooks that MMEngine runs without being asked."""
GIVEN_A_TYPE = frozenset(('sanity_check',))
"""Hooks whose type a config may leave out: launch.require_whole_checkpoint adds it."""


class Arguments(NamedTuple):
    """What a class or function takes."""

    names: FrozenSet[str]
    """Arguments that can be given by name, those of bases included."""
    complete: bool
    """Whether it takes no other."""


def check_arguments(cfg: Mapping[str, Any]) -> None:
    """Raise on a key, at any depth, that what is built from it does not take.

    The keys of each ``dict(type=...)`` are compared with the signature of the registered
    class, and of its bases where it hands ``**kwargs`` on. Where they are handed on, a key
    may be meant for something that nobody can look up: there only a name that is close to a
    known one is an error.

    Args:
        cfg: The complete config.

    Raises:
        ValueError: Naming the key by its path, and the one that was probably meant.
    """
    for section in SECTIONS:
        value = cfg.get(section)
        if not section.startswith('tta_'):  # not the Runner's own
            _check_section(section, value)
        if section == 'default_hooks' and isinstance(value, Mapping):
            _check_default_hooks(value)
        _check_value(section, value)


def _check_section(name: str, value: Any) -> None:
    form = 'a dict'
    wrong: Tuple[type, ...] = (str, bool, int, float)
    if name in EITHER:
        form = 'a dict, or a list of them'
    if name == 'custom_hooks':
        form, wrong = 'a list of dicts', (*wrong, collections.abc.Mapping)
    if isinstance(value, wrong):
        raise ValueError(f'config key {name} must be {form}, got {value!r}')


def refuse_unknown(
    path: str, keys: Iterable[str], known: Iterable[str], complete: bool = True
) -> None:
    """Raise ValueError for the first key that is not known.

    Args:
        path: Of the dict in the config.
        keys: Its keys.
        known: Those that it may have.
        complete: Whether there are no others: if not, only a misspelled one is wrong.
    """
    known = frozenset(known)
    for key in keys:
        if key in known:
            continue
        meant = closest(key, known)
        if meant is not None or complete:
            hint = f'did you mean {meant!r}?' if meant else _listed(known)
            raise ValueError(f'config key {path}.{key} is not known, {hint}')


def _listed(names: FrozenSet[str]) -> str:
    return f'known here: {", ".join(sorted(names))}'


def _check_default_hooks(hooks: Mapping[str, Any]) -> None:
    """Refuse a hook under a name that is close to another's, or without a type."""
    typed = {
        name for name, hook in hooks.items() if isinstance(hook, Mapping) and 'type' in hook
    }
    for name, hook in hooks.items():
        if hook is None or name in GIVEN_A_TYPE:
            continue
        meant = closest(name, (DEFAULT_HOOKS | typed) - {name})
        if name not in DEFAULT_HOOKS and (name not in typed or meant in DEFAULT_HOOKS):
            hint = (
                f'did you mean {meant!r}?' if meant else "it needs a type: dict(type='...')"
            )
            raise ValueError(f'config key default_hooks.{name} is not known, {hint}')


def _check_value(path: str, value: Any, untyped: Optional[Part] = None) -> None:
    """Check a value of the config and all that it holds."""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_value(f'{path}.{index}', item)
    if not isinstance(value, Mapping):
        return
    if path == CLIP_GRAD:
        parts = [clip_grad_value_ if value.get('type') == 'value' else clip_grad_norm_]
    else:
        parts = _parts(path, value) or [
            part for part in (untyped, UNTYPED.get(path)) if part is not None
        ]
    if parts:
        _check_keys(path, value, parts)
    for key, item in value.items():
        if not isinstance(key, str) or any((part, key) in FOREIGN for part in parts):
            continue  # data
        # those of layers are handed to functions of MMCV, which take out what they know;
        # the others are data
        layers = key.endswith('_cfg') and key != 'init_cfg'
        if not layers and key not in ('metainfo', 'arch', 'type'):
            untyped_part = next(
                (UNTYPED_ARGUMENTS[p, key] for p in parts if (p, key) in UNTYPED_ARGUMENTS),
                None,
            )
            _check_value(f'{path}.{key}', item, untyped_part)


def _check_keys(path: str, value: Mapping[str, Any], parts: List[Part]) -> None:
    takes = [arguments_of(part) for part in parts]
    names = frozenset(name for arguments in takes for name in arguments.names)
    extra = {'type', '_scope_'}
    extra.update(*(_taken_out(part) for part in parts))
    if '.losses.' in path:
        extra.add('begin')  # LossSchedule's
    refuse_unknown(
        path,
        [key for key in value if key not in extra],
        names | (extra - {'type', '_scope_'}),
        complete=all(arguments.complete for arguments in takes),
    )
    if MoRe in parts and isinstance(value.get('losses'), Mapping):
        refuse_unknown(f'{path}.losses', value['losses'], DEFAULT_LOSSES)
    if len(parts) == 1:
        _check_types(path, value, parts[0])


def _check_types(path: str, value: Mapping[str, Any], part: Part) -> None:
    """Refuse text where a number, a list or a dict is due, and the other way round."""
    for key, hint in _hints(part).items():
        options = typing.get_args(hint) if typing.get_origin(hint) is Union else (hint,)
        plain = [typing.get_origin(option) or option for option in options]
        if key not in value or not all(option in PLAIN for option in plain):
            continue
        allowed = tuple(kind for option in plain for kind in PLAIN[option])
        if not isinstance(value[key], allowed):
            names = [option.__name__.replace('NoneType', 'None') for option in plain]
            raise ValueError(
                f'config key {path}.{key} must be of type {" or ".join(names)}, got '
                f'{value[key]!r}'
            )


def _hints(part: Part) -> Mapping[str, Any]:
    """Types of the arguments that ``part`` itself names, if it is of this package.

    Other packages' annotations do not tell all that they take.
    """
    function = next(_signatures(part))
    if not function.__module__.startswith('mmseg_more.'):
        return {}
    try:
        return typing.get_type_hints(function)
    except NameError:  # of a name that is imported for type checking alone
        return {}


def _taken_out(part: Part) -> FrozenSet[str]:
    return frozenset(
        key
        for base, keys in TAKEN_OUT
        if inspect.isclass(part) and issubclass(part, base)
        for key in keys
    )


def _parts(path: str, value: Mapping[str, Any]) -> List[Part]:
    """The classes and functions that ``type`` may mean; none if nobody can say."""
    kind = value.get('type')
    if not isinstance(kind, str):
        return [kind] if callable(kind) else []
    scope, _, name = kind.rpartition('.')
    scope = scope or value.get('_scope_') or 'mmseg'
    if scope not in SCOPES:
        return _parts_of_package(scope, name)
    # what is registered by now: asking a registry for a name that it has not takes long
    registered = [entry for registry in _registries() for entry in _entries(registry)]
    parts = [part for key, part in registered if key == name]
    if not parts:
        meant = closest(name, {key for key, _ in registered})
        if meant is not None:
            raise ValueError(
                f'config key {path}.type: {kind!r} is not registered, did you mean '
                f'{meant!r}?'
            )
    return parts


def _parts_of_package(scope: str, name: str) -> List[Part]:
    if '.' in scope or importlib.util.find_spec(scope) is None:
        return []  # the full name of a class, or a package that is not installed
    found = (registry.get(f'{scope}.{name}') for registry in _registries())
    return [part for part in found if part is not None]


def _registries() -> Iterator[Registry]:
    for name in mmengine.registry.__all__:
        registry = getattr(mmseg.registry, name, getattr(mmengine.registry, name))
        if isinstance(registry, Registry):
            yield registry


def _entries(registry: Optional[Registry]) -> Iterator[Tuple[str, Part]]:
    """Names and what they mean, those of the parent's registry included."""
    while registry is not None:
        yield from registry.module_dict.items()
        registry = registry.parent


def arguments_of(part: Part) -> Arguments:
    """The arguments of a class or function, and of bases that get its ``**kwargs``."""
    names: List[str] = []
    passed_on = False
    for function in _signatures(part):
        parameters = list(inspect.signature(function).parameters.values())
        by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        names += [parameter.name for parameter in parameters if parameter.kind in by_name]
        if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
            return Arguments(frozenset(names) - {'self'}, complete=not passed_on)
        passed_on = True
    return Arguments(frozenset(names) - {'self'}, complete=False)


def _signatures(part: Part) -> Iterator[Callable]:
    """What is called when ``part`` is: of a class each ``__init__``, the nearest first."""
    own = [
        cls.__dict__['__init__']
        for cls in (part.__mro__[:-1] if inspect.isclass(part) else ())
        if '__init__' in cls.__dict__
    ]
    yield from own or [part]
