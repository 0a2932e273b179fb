"""Typos in config keys that nothing else would notice."""

from typing import Any, Iterable, List, Mapping, Optional

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
# Dicts whose keys MMEngine looks up one by one, so that a wrong one has no effect; an
# unknown key of any other dict is an unknown argument and fails where it is built.
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
CONSTRUCTORS = ('DefaultOptimWrapperConstructor', 'MergedOptimWrapperConstructor')
CUSTOM_KEY = frozenset(('lr_mult', 'decay_mult'))


def check_config(cfg: Mapping[str, Any]) -> None:
    """Raise on a config key that is misspelled and would be ignored.

    A config may hold variables of its own at the top level (``crop_size``,
    ``train_pipeline``, ...), so there only a name close to one that the Runner reads is
    an error. In ``LOOKED_UP`` and ``paramwise_cfg`` every unknown key is.

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
    for path, known in LOOKED_UP.items():
        _check_section(path, _find(cfg, path), known)
    constructor = (cfg.get('optim_wrapper') or {}).get('constructor', CONSTRUCTORS[0])
    if constructor not in CONSTRUCTORS:
        return  # it reads keys of its own
    paramwise = _find(cfg, 'optim_wrapper.paramwise_cfg') or {}
    _check_section('optim_wrapper.paramwise_cfg', paramwise, PARAMWISE)
    for name, value in (paramwise.get('custom_keys') or {}).items():
        _check_section(
            f'optim_wrapper.paramwise_cfg.custom_keys[{name!r}]', value, CUSTOM_KEY
        )


def closest(name: str, known: Iterable[str]) -> Optional[str]:
    """The known name that one or two slips of the keyboard turn into ``name``.

    One slip is a letter missing, added, replaced or swapped with the next; two are
    allowed where the name has more than six letters. None if there is no such name.
    """
    distance, found = min((_slips(name, other), other) for other in sorted(known))
    return found if distance <= (1 if len(name) <= 6 else 2) else None


def _slips(one: str, two: str) -> int:
    """Optimal string alignment distance."""
    before: List[int] = []
    last = list(range(len(two) + 1))
    for i, a in enumerate(one):
        row = [i + 1]
        for j, b in enumerate(two):
            cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a != b))
            if i and j and a == two[j - 1] and b == one[i - 1]:
                cost = min(cost, before[j - 1] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def _find(cfg: Mapping[str, Any], path: str) -> Optional[Mapping[str, Any]]:
    section: Any = cfg
    for part in path.split('.'):
        # Config itself is no Mapping
        section = section.get(part) if hasattr(section, 'get') else None
    return section if isinstance(section, Mapping) else None


def _check_section(
    path: str, section: Optional[Mapping[str, Any]], known: Iterable[str]
) -> None:
    for key in section or ():
        if key not in known:
            meant = closest(key, known)
            hint = f', did you mean {meant!r}?' if meant else '.'
            raise ValueError(
                f'config key {path}.{key} is not known{hint} Known here: '
                f'{", ".join(sorted(known))}.'
            )
