"""What tools/train.py and tools/test.py share: from command-line arguments to a config."""

import difflib
import gc
import inspect
import os
import os.path as osp
import zipfile
from pathlib import Path
from typing import Dict, List, Optional

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import (
    IterBasedTrainLoop,
    Runner,
    find_latest_checkpoint,
    load_checkpoint,
)

from mmseg.models import BaseSegmentor
from mmseg.registry import METRICS, MODELS, RUNNERS

from ..files import write_bytes
from ..model_index import shipped_config, shipped_models
from .config_arguments import DEFAULT_HOOKS
from .config_check import check_config, check_option
from .distributed import prepare_distributed
from .evaluators import evaluator_list
from .hooks.utils import find_hooks
from .optim import adapt_amp, enable_amp
from .truth import check_truth


def load_config(
    path: str,
    options: Optional[dict] = None,
    launcher: str = 'none',
    work_dir: Optional[str] = None,
    amp: bool = False,
) -> Config:
    """Read a config, override it and check it.

    ``path`` may also be the name of a shipped model (:mod:`mmseg_more.model_index`), unless
    there is a file of that name. The work folder is, in this order: ``work_dir``, the
    config's own, or ``./work_dirs/NAME_OF_THE_CONFIG``. With ``amp`` it trains in mixed
    precision (:func:`~mmseg_more.engine.optim.enable_amp`), and its options are known keys.

    Raises:
        FileNotFoundError: If there is no such file; with the configs that there are.
        ValueError: If it is no config, an option does not fit it, or a key is misspelled
            (:func:`check_config`).
    """
    if not osp.isfile(path):
        shipped = shipped_config(path)
        path = path if shipped is None else str(shipped)
    if not osp.isfile(path):
        near = _similar_files(path)
        raise FileNotFoundError(
            f'config {path} does not exist. '
            + (
                f'Did you mean {" or ".join(near)}?'
                if near
                else f'The shipped models are {", ".join(shipped_models())}.'
            )
        )
    cfg = _read_config(path)
    cfg.launcher = launcher
    if options:
        _override(cfg, options)
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('./work_dirs', osp.splitext(osp.basename(path))[0])
    _drop_unset_hooks(cfg)
    if amp:
        enable_amp(cfg)
    check_config(cfg)
    return cfg


def _read_config(path: str) -> Config:
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program of the user's own
        raise ValueError(
            f'config {path} cannot be read: {type(error).__name__}: {error}'
        ) from error


def _override(cfg: Config, options: dict) -> None:
    """Merge options of the command line; one at a time, so that an error names its own."""
    for key, value in options.items():
        check_option(cfg, key)
        try:
            cfg.merge_from_dict({key: value})
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'--cfg-options {key}={value} does not fit the config: {error}'
            ) from error


def _drop_unset_hooks(cfg: Config) -> None:
    """Let None switch off any default hook: MMEngine takes it for its own ones alone."""
    hooks = cfg.get('default_hooks') or {}
    if not hasattr(hooks, 'items'):
        return  # check_config says so
    for key in [key for key, hook in hooks.items() if hook is None]:
        if key not in DEFAULT_HOOKS:
            del hooks[key]


def check_checkpoint(path: str) -> None:
    """Raise if ``path`` is neither an address nor a file that may hold a checkpoint.

    Raises:
        FileNotFoundError: If there is no such file; with those that there are.
        ValueError: If the file is empty, or was cut off.
    """
    if '://' in path:
        return
    if osp.isfile(osp.expanduser(path)):
        return _check_whole(osp.expanduser(path))
    folder = osp.dirname(path) or '.'
    present = (
        sorted(name for name in os.listdir(folder) if name.endswith('.pth'))
        if osp.isdir(folder)
        else []
    )
    raise FileNotFoundError(
        f'checkpoint {path} does not exist. '
        + (
            f'In {folder} there are: {", ".join(present)}.'
            if present
            else 'Training writes iter_N.pth into its work_dir.'
        )
    )


def check_device(device: str) -> None:
    """Raise if nothing can be computed on a device.

    Args:
        device: Its name for PyTorch.

    Raises:
        ValueError: If there is no such one; says which there are.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'device {device!r} cannot be used: take cpu, or cuda or cuda:N where there '
            f'are GPUs (PyTorch finds {torch.cuda.device_count()} here)'
        ) from error


def load_model(cfg: Config, checkpoint: str, device: str) -> BaseSegmentor:
    """The model of a config with all weights of a checkpoint, in evaluation mode.

    Raises:
        RuntimeError: If a weight is missing, left over or of another shape.
        ValueError: If there is no such device, or the file is no checkpoint.
    """
    check_device(device)
    model = MODELS.build(cfg.model)
    load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    return model.to(device).eval()


def require_whole_checkpoint(cfg: Config) -> None:
    """Have ``cfg`` test no checkpoint that lacks weights or holds NaN.

    A config that has no :class:`SanityCheckHook` gets one, as
    ``default_hooks.sanity_check``.
    """
    given = (cfg.get('default_hooks') or {}).get('sanity_check')
    if given:  # by options of the command line alone, say
        given.setdefault('type', 'SanityCheckHook')
    if not find_hooks(cfg, 'SanityCheckHook'):
        hook = dict(type='SanityCheckHook')
        cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'sanity_check': hook}


def _check_whole(path: str) -> None:
    """Raise ValueError for what an interrupted copy, or a full disk, leaves behind."""
    size = osp.getsize(path)
    with open(path, 'rb') as file:
        zipped = file.read(4) == b'PK\x03\x04'  # as torch.save writes it
    if not size or zipped and not zipfile.is_zipfile(path):
        state = 'is empty' if not size else f'was cut off: its {size} bytes have no end'
        raise ValueError(
            f'checkpoint {path} {state}; take an earlier one, or copy it again'
        )


def prepare_machine(cfg: Config) -> None:
    """Adapt ``cfg`` to a machine without a GPU; elsewhere it stays as it is."""
    adapt_amp(cfg)
    prepare_distributed(cfg)


def use_resumable_loop(cfg: Config) -> None:
    """Train with ``ResumableTrainLoop`` where ``cfg`` names MMEngine's loop of iterations.

    MMEngine's own is left where it is named as such: ``'mmengine.IterBasedTrainLoop'``.
    """
    train_cfg = cfg.get('train_cfg') or {}
    if train_cfg.get('type') in ('IterBasedTrainLoop', IterBasedTrainLoop) or (
        'type' not in train_cfg and train_cfg.get('by_epoch') is False
    ):
        train_cfg.pop('by_epoch', None)
        train_cfg['type'] = 'ResumableTrainLoop'


def enable_auto_scale_lr(cfg: Config) -> None:
    """Have the learning rate follow the batch size of all processes together.

    Raises:
        ValueError: If ``cfg`` does not say which batch size its rate is meant for.
    """
    scale = cfg.get('auto_scale_lr') or {}
    if 'base_batch_size' not in scale:
        raise ValueError(
            '--auto-scale-lr: the config does not say which batch size, over all '
            'processes, its learning rate is meant for; add '
            'auto_scale_lr = dict(base_batch_size=N)'
        )
    scale['enable'] = True


def choose_resumed(cfg: Config) -> Optional[str]:
    """Have a training that is resumed go on from a checkpoint of its own.

    A ``load_from`` that says what a training began with is dropped as soon as the work
    folder holds a checkpoint. One that names a checkpoint of the work folder is a choice
    among the training's own and stays; so does any while the work folder has none: for
    MMEngine, ``load_from`` with ``resume`` is the checkpoint to resume from.

    Args:
        cfg: Complete config with ``work_dir`` and ``resume``; changed.

    Returns:
        A line for the log, None if there is no ``load_from``, or nothing is resumed.
    """
    given = cfg.get('load_from')
    if not (cfg.get('resume') and given):
        return None
    latest = find_latest_checkpoint(cfg.work_dir)
    if latest is None:
        return f'{cfg.work_dir} has no checkpoint yet: resumed is load_from={given}.'
    if osp.realpath(osp.dirname(given)) == osp.realpath(cfg.work_dir):
        return f'Resumed is load_from={given}; the latest is {latest}.'
    cfg.load_from = None
    return f'Resumed is {latest}, of this training; load_from={given} is ignored.'


def build_runner(cfg: Config, keep_copy: bool = False) -> Runner:
    """The Runner, or the class that ``runner_type`` names.

    Args:
        cfg: Complete config, of which the runner writes a copy into the work folder.
        keep_copy: Whether a copy that is there stays: that of a training is what its
            checkpoints are used with, and a test has changed the config. Its own copy is
            ``TIMESTAMP/vis_data/config.py``.

    Raises:
        ValueError: If what is scored needs masks, and the data have none
            (:func:`check_truth`).
    """
    check_truth(cfg)
    copy = Path(cfg.work_dir, Path(cfg.filename).name)
    kept = copy.read_bytes() if keep_copy and copy.is_file() else None
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if kept is not None and is_main_process():
        write_bytes(copy, kept)
    return runner


def finish() -> None:
    """Leave the process group, which PyTorch warns about otherwise.

    The caller keeps no reference to the runner: its model holds the group, and a group that
    is still held at the end of the process can abort it.
    """
    if torch_dist.is_available() and torch_dist.is_initialized():
        gc.collect()  # a runner is full of cycles
        torch_dist.destroy_process_group()


def set_output_dir(cfg: Config, folder: str) -> None:
    """Have the predictions written to ``folder`` by the metrics that can.

    Raises:
        ValueError: If none of ``cfg.test_evaluator`` has an ``output_dir``.
    """
    evaluators = evaluator_list(cfg.test_evaluator)
    found = False
    for evaluator in evaluators:
        kind = evaluator['type']
        kind = METRICS.get(kind) if isinstance(kind, str) else kind
        # None: a name of another package's registry, or a wrong one, as building will say
        if kind and 'output_dir' in inspect.signature(kind).parameters:
            evaluator['output_dir'] = folder
            found = True
    if not found:
        names = [str(evaluator['type']) for evaluator in evaluators]
        raise ValueError(
            f'--out: none of the metrics in test_evaluator ({names}) writes '
            "predictions; add dict(type='IoUMetric') to it"
        )


def show_predictions(
    cfg: Config, show: bool = False, folder: Optional[str] = None, wait_time: float = 2.0
) -> None:
    """Have predictions drawn, in a window and/or into ``folder``.

    Raises:
        ValueError: If the config has no ``default_hooks.visualization``.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir need default_hooks = '
            "dict(visualization=dict(type='SegVisualizationHook')) in the "
            'config'
        )
    hook['draw'] = True
    if show:
        hook['show'] = True
        hook['wait_time'] = wait_time
    if folder:
        cfg.visualizer['save_dir'] = folder


def use_tta(cfg: Config) -> None:
    """Test with the augmentations of ``tta_pipeline``, merged by ``tta_model``.

    Raises:
        ValueError: If the config defines no test-time augmentation.
    """
    missing = [key for key in ('tta_pipeline', 'tta_model') if key not in cfg]
    if missing:
        raise ValueError(f'--tta needs {" and ".join(missing)} in the config')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model


def _similar_files(path: str) -> List[str]:
    """Configs with a similar name, in the folder of ``path`` and below configs/."""
    folders = [osp.dirname(path) or '.']
    folders.extend(root for root, _, _ in os.walk('configs'))
    names: Dict[str, str] = {}
    for folder in folders:
        if osp.isdir(folder):
            for name in os.listdir(folder):
                if name.endswith('.py'):
                    names.setdefault(name, osp.join(folder, name))
    near = difflib.get_close_matches(osp.basename(path), sorted(names), n=2)
    return [names[name] for name in near]
