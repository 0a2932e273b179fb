"""Typos in config keys, found before anything is built."""

from typing import Any, Iterator, Mapping, Optional

from .config_arguments import check_arguments, refuse_unknown
from .spelling import closest

# Read by MMEngine's Runner and Config
RUNNER_KEYS = frozenset(
    (
        'model',
        'work_dir',
        'train_dataloader',
        'val_dataloader',
        'test_dataloader',
        'train_cfg',
        'val_cfg',
        'test_cfg',
        'auto_scale_lr',
        'optim_wrapper',
        'param_scheduler',
        'val_evaluator',
        'test_evaluator',
        'default_hooks',
        'custom_hooks',
        'data_preprocessor',
        'load_from',
        'resume',
        'launcher',
        'env_cfg',
        'log_processor',
        'log_level',
        'visualizer',
        'default_scope',
        'randomness',
        'experiment_name',
        'runner_type',
        'custom_imports',
        'model_wrapper_cfg',
        'find_unused_parameters',
        'sync_bn',
        'compile',
        'strategy',
    )
)
# Read by this package's commands
COMMAND_KEYS = frozenset(('tta_model', 'tta_pipeline', 'test_pipeline'))
# Dicts whose keys MMEngine looks up one by one, so that a wrong one has no effect. The
# keys of other dicts are arguments.
LOOKED_UP = {
    'env_cfg': frozenset(('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')),
    'auto_scale_lr': frozenset(('enable', 'base_batch_size')),
}
PARAMWISE = frozenset(
    (
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'flat_decay_mult',
        'dwconv_decay_mult',
        'dcn_offset_lr_mult',
        'bypass_duplicate',
    )
)
_NAMED_PLACES = 3  # of an error
CONSTRUCTORS = ('DefaultOptimWrapperConstructor', 'MergedOptimWrapperConstructor')
CUSTOM_KEY = frozenset(('lr_mult', 'decay_mult'))


def check_config(cfg: Mapping[str, Any]) -> None:
    """Raise on a config key that is misspelled, at any depth.

    A config may hold variables of its own at the top level (``crop_size``,
    ``train_pipeline``, ...), so there only a name close to one that the Runner reads is
    an error. In ``LOOKED_UP`` and ``paramwise_cfg`` every unknown key is; what is built
    takes the arguments of its class (:func:`check_arguments`).

    Args:
        cfg: The complete config, command-line overrides included.

    Raises:
        ValueError: Naming the key, and the one that was probably meant.
    """
    for key in cfg:
        if key in RUNNER_KEYS or key.startswith('_'):
            continue
        meant = closest(key, RUNNER_KEYS)
        if meant is not None:
            raise ValueError(
                f'config key {key!r} is not known, did you mean {meant!r}? (If it is a '
                f'variable of your own, call it {"_" + key!r}.)'
            )
    check_arguments(cfg)
    for path, known in LOOKED_UP.items():
        refuse_unknown(path, _find(cfg, path) or (), known)
    _check_paramwise(cfg)


def check_option(cfg: Mapping[str, Any], option: str) -> None:
    """Raise if a key of ``--cfg-options`` is one that nothing reads any more.

    A variable of the config file has been used when the file was read.

    Args:
        cfg: The config without the option.
        option: The key, such as 'train_cfg.max_iters'.

    Raises:
        ValueError: Naming the keys that were probably meant.
    """
    key = option.split('.')[0]
    if key in RUNNER_KEYS | COMMAND_KEYS or key.startswith('_'):
        return
    if closest(key, RUNNER_KEYS) is not None:
        return  # check_config says so
    places = list(_places(cfg, key))[:_NAMED_PLACES]
    problem = (
        'is a variable of the config file, which has been used when that was read'
        if key in cfg
        else 'is no key of the config'
    )
    hint = f'; did you mean {" or ".join(places)}?' if places else ''
    raise ValueError(f'--cfg-options {option}: {key!r} {problem}{hint}')


def _places(section: Any, key: str, path: str = '') -> Iterator[str]:
    """Where in a section ``key`` is the last of a path, beside the section itself."""
    if isinstance(section, (list, tuple)):
        section = dict(enumerate(section))
    if not hasattr(section, 'items'):
        return
    for name, value in section.items():
        if path and name == key:
            yield f'{path}{name}'
        elif path or name in RUNNER_KEYS:
            yield from _places(value, key, f'{path}{name}.')


def _check_paramwise(cfg: Mapping[str, Any]) -> None:
    constructor = (cfg.get('optim_wrapper') or {}).get('constructor', CONSTRUCTORS[0])
    if constructor not in CONSTRUCTORS:
        return  # it reads keys of its own
    paramwise = _find(cfg, 'optim_wrapper.paramwise_cfg') or {}
    refuse_unknown('optim_wrapper.paramwise_cfg', paramwise, PARAMWISE)
    for name, value in (paramwise.get('custom_keys') or {}).items():
        refuse_unknown(
            f'optim_wrapper.paramwise_cfg.custom_keys[{name!r}]', value or (), CUSTOM_KEY
        )


def _find(cfg: Mapping[str, Any], path: str) -> Optional[Mapping[str, Any]]:
    section: Any = cfg
    for part in path.split('.'):
        # Config itself is no Mapping
        section = section.get(part) if hasattr(section, 'get') else None
    return section if isinstance(section, Mapping) else None
