"""The config that a checkpoint holds, read without running anything of it."""

import ast
from typing import Any, Dict, Iterator, Mapping, Sequence, Tuple

from mmengine.config import ConfigDict
from mmengine.registry import Registry

from mmseg.registry import DATASETS, MODELS, TRANSFORMS

from ..registry import SCOPES

_REMEDY = 'Give the config file as well, if you trust it: MoReInferencer(CONFIG, WEIGHTS)'
# Beginnings of the modules whose classes the config of a checkpoint may name: parts that
# a MoRe is made of, and that neither open files nor run code, whatever their arguments.
_MODEL_PARTS = (
    'mmseg_more.models.',
    'mmseg.models.data_preprocessor.',
    'torch.nn.modules.',
    'mmcv.cnn.bricks.',
    'mmengine.utils.dl_utils.parrots_wrapper.',  # SyncBN
)
_START = ('init_cfg', 'pretrained')
"""What a model starts from before it is trained; files that need not be here."""

_DATASETS = ('mmseg_more.datasets.',)
# By name: others of these packages unpickle what they load.
_TRANSFORMS = (
    'LoadImageFromFile',
    'LoadAnnotations',
    'LoadAnyImage',
    'LoadMask',
    'Normalize',
    'PackImageLevelInputs',
    'PackSegInputs',
    'Pad',
    'Resize',
    'ResizeShortestEdge',
    'ResizeToMultiple',
)


def checkpoint_config(checkpoint: Mapping[str, Any]) -> ConfigDict:
    """What inference needs of the config in a checkpoint of MMEngine.

    The text is parsed and not run, and the classes that it names must be parts of a MoRe,
    of its data or of a plain test pipeline: a config can name any function of any package,
    and building it would call that.

    Args:
        checkpoint: Holds the text as ``message_hub.runtime_info.cfg`` or ``meta.cfg``.

    Returns:
        ``model``, and where they are given ``test_dataloader.dataset``, ``test_pipeline``
        and ``test_evaluator`` (plain data).

    Raises:
        ValueError: If there is none, or it is more than data; says what to do.
    """
    settings = parse_config_text(_config_text(checkpoint))
    model = settings.get('model')
    if not isinstance(model, dict) or model.get('type') != 'MoRe':
        raise ValueError(f'the config in the checkpoint is not that of a MoRe. {_REMEDY}')
    model = _without_start(model)
    loader = settings.get('test_dataloader')
    dataset = loader.get('dataset') if isinstance(loader, dict) else None
    dataset = dict(dataset) if isinstance(dataset, dict) else {}
    pipelines = [dataset.pop('pipeline', None), settings.get('test_pipeline')]
    _check_parts(model, MODELS, _MODEL_PARTS)
    _check_parts(dataset, DATASETS, _DATASETS)
    _check_transforms(pipelines)
    kept: Dict[str, Any] = dict(model=model, test_pipeline=pipelines[0] or pipelines[1])
    if dataset:
        kept['test_dataloader'] = dict(dataset=dataset)
    if 'test_evaluator' in settings:  # holds thresholds; inference does not build it
        kept['test_evaluator'] = settings['test_evaluator']
    return ConfigDict(kept)


def _config_text(checkpoint: Mapping[str, Any]) -> str:
    for path in (('message_hub', 'runtime_info', 'cfg'), ('meta', 'cfg')):
        text: Any = checkpoint
        for key in path:
            text = text.get(key) if isinstance(text, Mapping) else None
        if isinstance(text, str):
            return text
    raise ValueError(f'the checkpoint holds no config. {_REMEDY}')


def parse_config_text(text: str) -> Dict[str, Any]:
    """Parse a config as MMEngine writes it, running nothing.

    Such a text is a list of assignments of numbers, strings, None, lists, tuples, dicts
    and ``dict(key=value)``.

    Raises:
        ValueError: If there is anything else in it; says in which line.
    """
    try:
        statements = ast.parse(text).body
        return dict(_assignment(statement) for statement in statements)
    except _NotData as error:
        raise ValueError(
            f'the config in the checkpoint is more than data (line {error.args[0]}: '
            f'{error.args[1]}) and is not read, since that could run any code. {_REMEDY}'
        ) from None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(
            f'the config in the checkpoint cannot be read ({type(error).__name__}: '
            f'{error}). {_REMEDY}'
        ) from None


class _NotData(Exception):
    """Line, and what stands there."""


def _assignment(statement: ast.stmt) -> Tuple[str, Any]:
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise _NotData(statement.lineno, type(statement).__name__)
    (target,) = statement.targets
    if not isinstance(target, ast.Name):
        raise _NotData(statement.lineno, 'assignment to something else than a name')
    return target.id, _value(statement.value)


def _value(node: ast.expr) -> Any:
    """The value of an expression that is data."""
    if isinstance(node, ast.Dict):
        keys = [key for key in node.keys if key is not None]
        if len(keys) < len(node.keys):  # {**other}
            raise _NotData(node.lineno, ast.unparse(node)[:60])
        return {_value(key): _value(value) for key, value in zip(keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(element) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Call):
        is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict'
        if not is_dict or node.args or any(word.arg is None for word in node.keywords):
            raise _NotData(node.lineno, ast.unparse(node)[:60])
        return {word.arg: _value(word.value) for word in node.keywords}
    try:
        return ast.literal_eval(node)  # constants, with a sign, and sets of them
    except ValueError:
        raise _NotData(node.lineno, ast.unparse(node)[:60]) from None


def _without_start(section: Any) -> Any:
    if isinstance(section, (list, tuple)):
        return type(section)(_without_start(part) for part in section)
    if not isinstance(section, dict):
        return section
    return {
        key: _without_start(value) for key, value in section.items() if key not in _START
    }


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    """All dicts in a value, itself included."""
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value
    for part in inner if isinstance(value, (dict, list, tuple)) else ():
        yield from _dicts(part)


def _check_parts(section: Any, registry: Registry, modules: Sequence[str]) -> None:
    """Raise ValueError if a class is named that is not defined in one of the modules."""
    for part in _dicts(section):
        kind = part.get('type')
        found = _registered(registry, kind) if isinstance(kind, str) else None
        known = found is not None and f'{found.__module__}.'.startswith(tuple(modules))
        if 'type' in part and not known or _has_other_scope(part):
            raise _unknown(part)


def _check_transforms(pipelines: Sequence[Any]) -> None:
    """Raise ValueError if a step of a pipeline is not known to be harmless."""
    for step in _dicts(list(pipelines)):
        kind = step.get('type')
        known = kind in _TRANSFORMS and _registered(TRANSFORMS, str(kind)) is not None
        if 'type' in step and not known or _has_other_scope(step):
            raise _unknown(step)


def _has_other_scope(part: Mapping[str, Any]) -> bool:
    return part.get('_scope_', 'mmseg') not in SCOPES


def _registered(registry: Registry, name: str) -> Any:
    """The class of a name, or None.

    ``Registry.get`` would import what it does not know.
    """
    at: Any = registry
    while at is not None and name not in at.module_dict:
        at = at.parent
    return None if at is None else at.module_dict[name]


def _unknown(part: Mapping[str, Any]) -> ValueError:
    scope = f' in the scope {part["_scope_"]!r}' if '_scope_' in part else ''
    return ValueError(
        f'the config in the checkpoint builds {part.get("type")!r}{scope}, which is not '
        f'known to be a harmless part of a MoRe. {_REMEDY}'
    )
