"""What lets MMSegmentation run on today's PyTorch, without compiling mmcv.

Adjustments, all made by :func:`apply` before anything of MMCV, MMSegmentation or
MMPretrain is imported, and none of which replaces something that works already:

* MMSegmentation imports mmcv's compiled operations although MoRe uses none of them.
  Where they are missing (mmcv-lite) a placeholder module takes their place, whose every
  operation says what to install when it is called. An installed mmseg_more does this also
  if mmseg is imported first (``mmseg_more_import_hook``).
* MMEngine knows a fixed list of packages whose configs can be named ``PACKAGE::...``:
  mmseg_more becomes one of them, and so does mmseg where a fork has renamed it.
* Since PyTorch 2.6 ``torch.load`` reads tensors only, and rejects the logs and random
  states that MMEngine stores beside them. Exactly the types MMEngine writes are allowed.
* MMEngine opens a downloaded checkpoint without that restriction, the fork OneDL any that
  cannot be opened with it, and both run a config that a checkpoint holds when a training
  resumes from it. None of this happens any more (docs/security.md).
* A checkpoint that cannot be loaded is named by the error.
* ``auto_scale_lr`` scales the rate that MMEngine logs as ``base_lr`` too.
* MMPretrain's optional multi-modal models fail to import beside a recent
  ``transformers``; they are left out.
"""

import importlib.util
import sys
from functools import partial, wraps
from importlib.metadata import PackageNotFoundError, version
from pickle import UnpicklingError
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from mmseg_more import missing_extension
from mmseg_more.version import STACKS, TORCH

_EXT = 'mmcv._ext'
_HISTORY_METHODS = ('min', 'max', 'current', 'mean')


def check_versions() -> None:
    """Check that the installed OpenMMLab packages and PyTorch are of versions that fit.

    Only the packages' metadata is read, so that the message comes before any import
    that a wrong version would break.

    Raises:
        ImportError: If one is missing or of another version; the message names all
            that do not fit, the ranges that do and the command that installs them.
            Likewise if packages of both stacks lie over each other.
    """
    from packaging.specifiers import SpecifierSet

    problems, remedy = [], []
    for module, distributions, fitting in (*STACKS[installed_stack()], TORCH):
        found = installed_versions(distributions)
        if not found:
            problems.append(f'{module} is not installed, {fitting} fits')
            remedy.append(f'"{distributions[-1]}{fitting}"')
        for name, number in found.items():
            if not SpecifierSet(fitting).contains(number, prereleases=True):
                problems.append(f'{name} {number} is installed, {fitting} fits')
                remedy.append(f'"{name}{fitting}"')
    if problems:
        raise ImportError(
            'mmseg_more cannot work with the installed packages: '
            + '; '.join(problems)
            + f'. Run: pip install {" ".join(remedy)}'
        )


def installed_stack() -> str:
    """The key of ``STACKS`` of which packages are installed; the first, if of none.

    Raises:
        ImportError: If packages of several are: they have the same files, and those
            that came last have replaced the others'.
    """
    found = {
        stack: installed_versions(name for package in packages for name in package[1])
        for stack, packages in STACKS.items()
    }
    stacks = [stack for stack, versions in found.items() if versions]
    if len(stacks) > 1:
        names = [name for stack in stacks for name in found[stack]]
        raise ImportError(
            'packages of OpenMMLab and of its fork OneDL are installed over each other: '
            f'{", ".join(names)}. Keep one of the two (docs/stacks.md). Run: '
            f'pip uninstall -y {" ".join(names)}; then for OpenMMLab '
            'pip install "mmseg_more[lite]", or for OneDL pip install "mmseg_more[onedl]"'
        )
    return stacks[0] if stacks else next(iter(STACKS))


def installed_versions(distributions: Iterable[str]) -> Dict[str, str]:
    """Versions of those of the distributions that are installed, by name."""
    found = {name: installed_version(name) for name in distributions}
    return {name: number for name, number in found.items() if number is not None}


def installed_version(distribution: str) -> Optional[str]:
    """Version of an installed distribution; None if there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def install_missing_extension() -> None:
    """Register the placeholder ``mmcv._ext``, only if the real one is missing."""
    if importlib.util.find_spec(_EXT) is None:
        sys.modules[_EXT] = missing_extension


def allow_config_names() -> None:
    """Let configs be named ``mmseg_more::more/more_vit-b_voc.py``, as mmseg's can be.

    MMEngine asks pip where the distribution lies whose name is in its list, and is told
    where packages are installed, also for one that is not there (``pip install -e``). A
    module is looked up by Python instead: any of this package leads to its folder.

    The list of OneDL's MMEngine still has OpenMMLab's name of MMSegmentation, which is not
    installed there.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('mmseg_more', 'mmseg_more.version')
    if installed_version(MODULE2PACKAGE['mmseg']) is None:
        MODULE2PACKAGE['mmseg'] = 'mmseg'


def _history_buffer_method(owner: Any, name: str) -> Callable:
    """The only use of ``getattr`` in MMEngine's checkpoints, and nothing beyond it."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in _HISTORY_METHODS:
        raise UnpicklingError(
            f'a checkpoint may not access {name!r} of {owner!r}; only '
            f'{", ".join(_HISTORY_METHODS)} of HistoryBuffer are allowed'
        )
    return getattr(HistoryBuffer, name)


def checkpoint_globals() -> List[Tuple[Callable, str]]:
    """Types and functions that occur in MMEngine's own checkpoints.

    NumPy 2 renamed ``numpy.core`` to ``numpy._core``: both names are given, so that a
    checkpoint crosses from one to the other.

    Returns:
        Pairs of object and full name in the file, as ``torch.serialization.
        add_safe_globals`` takes them.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    core = importlib.import_module(
        'numpy._core.multiarray' if hasattr(np, '_core') else 'numpy.core.multiarray'
    )
    allowed: List[Tuple[Callable, str]] = [
        (HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (np.ndarray, 'numpy.ndarray'),
        (np.dtype, 'numpy.dtype'),
        (_history_buffer_method, 'builtins.getattr'),
    ]
    for package in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed.append((core._reconstruct, f'{package}._reconstruct'))
        allowed.append((core.scalar, f'{package}.scalar'))
    # np.dtype('f8') is an instance of a class of its own since NumPy 1.25. Numbers, bool
    # and text only: objects and records have no place in a log.
    codes = np.typecodes['AllInteger'] + np.typecodes['AllFloat'] + '?US'
    classes = {type(np.dtype(code)) for code in codes}
    allowed.extend(
        (cls, f'{cls.__module__}.{cls.__qualname__}')
        for cls in classes
        if cls is not np.dtype
    )
    return allowed


def allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read what MMEngine writes."""
    import torch

    torch.serialization.add_safe_globals([*checkpoint_globals()])


def restrict_loading() -> None:
    """Open every checkpoint as strictly as ``torch.load`` does by default.

    PyTorch's function for downloads, which MMEngine calls for ``http://``, ``https://``,
    ``torchvision://``, ``openmmlab://`` and ``mmcls://``, loads any object by default.
    OneDL's MMEngine has a function for files that lets a checkpoint call ``getattr``, and
    that opens without restriction what it could not open with it.
    """
    import mmengine.runner.checkpoint as checkpoint
    import torch
    from torch.hub import load_state_dict_from_url

    checkpoint.load_url = partial(load_state_dict_from_url, weights_only=True)
    if hasattr(checkpoint, '_safe_torch_load'):
        checkpoint._safe_torch_load = torch.load


def leave_out_config_text() -> None:
    """Take the Python text ``meta['config']`` out of every checkpoint that is loaded.

    ``resume`` of MMEngine's runners runs it, to compare a key ``gpu_ids`` that MMEngine's
    configs do not have. MMEngine's own checkpoints hold their config under other names, so
    nothing is lost.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    load = CheckpointLoader.load_checkpoint
    if getattr(load, 'leaves_out_config_text', False):
        return

    @wraps(load)
    def load_checkpoint(*args: Any, **kwargs: Any) -> Any:
        checkpoint = load(*args, **kwargs)
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        if isinstance(meta, dict):
            meta.pop('config', None)
        return checkpoint

    load_checkpoint.leaves_out_config_text = True  # type: ignore[attr-defined]
    CheckpointLoader.load_checkpoint = staticmethod(load_checkpoint)


def explain_checkpoints() -> None:
    """Have MMEngine name the file where a checkpoint cannot be loaded, and the remedy."""
    from mmengine.runner.checkpoint import CheckpointLoader

    from mmseg_more.files import reading_checkpoint

    load = CheckpointLoader.load_checkpoint
    if getattr(load, 'names_the_file', False):
        return

    @wraps(load)
    def load_checkpoint(filename: str, *args: Any, **kwargs: Any) -> Any:
        with reading_checkpoint(filename):
            return load(filename, *args, **kwargs)

    load_checkpoint.names_the_file = True  # type: ignore[attr-defined]
    CheckpointLoader.load_checkpoint = staticmethod(load_checkpoint)


def scale_logged_rate() -> None:
    """Let ``auto_scale_lr`` scale the rate that is logged as ``base_lr``.

    Where an optimizer has several groups, MMEngine's wrapper keeps the rate of the config
    beside them; schedulers change it with theirs, and the log shows it. The runner scales
    the groups alone, so that the log would go on from the rate of the config.
    """
    from mmengine.runner import Runner

    scale = Runner.scale_lr
    if getattr(scale, 'scales_logged_rate', False):
        return

    @wraps(scale)
    def scale_lr(self: Any, optim_wrapper: Any, *args: Any, **kwargs: Any) -> None:
        several = hasattr(optim_wrapper, 'values')  # an OptimWrapperDict
        wrappers = [*optim_wrapper.values()] if several else [optim_wrapper]
        before = [wrapper.optimizer.param_groups[0]['lr'] for wrapper in wrappers]
        scale(self, optim_wrapper, *args, **kwargs)
        for wrapper, rate in zip(wrappers, before):
            logged = getattr(wrapper, 'base_param_settings', None)
            if logged is not None and rate:
                logged['lr'] *= wrapper.optimizer.param_groups[0]['lr'] / rate

    scale_lr.scales_logged_rate = True  # type: ignore[attr-defined]
    Runner.scale_lr = scale_lr


def skip_multimodal() -> None:
    """Keep MMPretrain from importing its multi-modal models."""
    import mmpretrain.utils.dependency as dependency

    dependency.WITH_MULTIMODAL = False


def apply() -> None:
    """Check the versions, then make every adjustment. Safe to call twice."""
    check_versions()
    install_missing_extension()
    allow_config_names()
    allow_mmengine_checkpoints()
    restrict_loading()
    explain_checkpoints()
    leave_out_config_text()
    scale_logged_rate()
    skip_multimodal()
