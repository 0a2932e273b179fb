"""What would cost a training hours, and can be seen before its first iteration."""

import errno
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Optional, Union

from mmengine import fileio
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from ..datasets.image_labels import name_few
from ..image_files import decode_image
from ..text_vectors import name_differences, read_text_vectors


def check_images(dataset: Any, num_images: int, seed: int = 0) -> None:
    """Decode a random sample of a data set's images.

    Args:
        dataset: One with MMEngine's ``get_data_info``; any other is passed over.
        num_images: How many; 0: none.
        seed: Which ones; global random states are left alone.

    Raises:
        ValueError: Naming the images that cannot be read.
    """
    if not hasattr(dataset, 'get_data_info'):
        return
    count = min(num_images, len(dataset))
    broken = []
    for index in random.Random(seed).sample(range(len(dataset)), count):
        path = dataset.get_data_info(index).get('img_path')
        if path is None:
            return
        reason = _unreadable(path, getattr(dataset, 'backend_args', None))
        if reason is not None:
            broken.append(f'{path} ({reason})')
    if broken:
        raise ValueError(
            f'{len(broken)} of {count} training images that were tried cannot be read: '
            f'{name_few(broken)}; replace them or take them out of the split, and look at '
            'the other ones too (default_hooks.sanity_check.num_images=0 starts all the '
            'same: the data set leaves out as many as its max_broken allows)'
        )


def _unreadable(path: str, backend_args: Any) -> Optional[str]:
    try:
        content = fileio.get(path, backend_args=backend_args)
        if not content:
            return 'it is empty'
        if decode_image(content) is None:
            return f'{len(content)} bytes do not decode as an image'
    except Exception as error:  # whatever a decoder has against it
        return f'{type(error).__name__}: {error}'
    return None


def check_classes(dataset: Any) -> None:
    """See that each class has an image that shows it.

    Args:
        dataset: An ``ImageLevelDataset``; without image labels it is passed over.

    Raises:
        ValueError: Naming the classes without one.
    """
    if not hasattr(dataset, 'get_data_info') or not len(dataset):
        return
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes', ())[1:]
    missing = set(range(len(names)))
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if 'gt_label' not in info:
            return
        missing -= set(info['gt_label'])
        if not missing:
            return
    if missing:
        raise ValueError(
            'no training image shows '
            f'{name_few([names[index] for index in sorted(missing)])}: correct the labels '
            "or the split, or take the classes out of metainfo (and of the model's "
            'num_classes). If it is meant: '
            'default_hooks.sanity_check.classes_without_images=True'
        )


def check_text_classes(file: str, dataset: Any) -> None:
    """See that the classes of ``model.text_classifier`` are those of the data set.

    Args:
        file: Of the text vectors.
        dataset: One with MMEngine's ``metainfo``; any other is passed over.

    Raises:
        ValueError: Naming the difference.
    """
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if classes is None:
        return
    names = tuple(str(name) for name in read_text_vectors(file).classes)
    difference = name_differences(names, tuple(classes)[1:])
    if difference:
        raise ValueError(
            f'classes of model.text_classifier.file={file} are not those of the data set: '
            f'{difference}; make it with the names and the order of the data set '
            '(tools/model_converters/clip_text.py)'
        )


def check_writable(folder: Union[str, Path]) -> None:
    """Write a file into a folder, which is made if it is missing, and remove it.

    Raises:
        OSError: Naming the folder.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b'\0')
            file.flush()
    except OSError as error:
        raise type(error)(
            error.errno,
            f'{error.strerror}: nothing can be written into the work folder; choose '
            'another one by --work-dir',
            str(folder),
        ) from error


class CheckpointSizes(NamedTuple):
    """Bytes of a training's checkpoints, estimated before the first is written."""

    full: int
    """Of one to resume from: weights, their averages (EMA), state of the optimizer."""
    best: int
    """Of one of the best: no optimizer."""


def checkpoint_sizes(
    model: nn.Module, optim_wrapper: OptimWrapper, num_averages: int, with_optimizer: bool
) -> CheckpointSizes:
    """Estimate the sizes from tensors alone; the rest is some MB at most.

    Args:
        model: Without wrappers.
        optim_wrapper: Its optimizer's state may still be empty: two tensors like each
            trained weight are counted for a kind with ``betas`` (three with
            ``amsgrad``), one for a kind with momentum.
        num_averages: Copies of all weights in an EMA.
        with_optimizer: Whether its state is saved.
    """
    weights = _num_bytes(model.state_dict().values()) * (1 + num_averages)
    state = 0
    if with_optimizer:
        for group in optim_wrapper.optimizer.param_groups:
            if 'betas' in group:
                copies = 3 if group.get('amsgrad') else 2
            else:
                copies = int(bool(group.get('momentum')))
            state += copies * _num_bytes(p for p in group['params'] if p.requires_grad)
    return CheckpointSizes(weights + state, weights)


def _num_bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def check_disk_space(runner: Runner) -> None:
    """See that the checkpoints to come have room, where CheckpointHook writes them.

    Counted are those that are kept, one more that is written before an old one goes, and
    the best ones likewise. What a resumed training has written takes no more room.

    Raises:
        OSError: If there is less; says how much is needed.
    """
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook) or not isinstance(
            runner.optim_wrapper, OptimWrapper
        ):
            continue
        folder = Path(hook.out_dir or runner.work_dir)
        existing = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
        needed = _bytes_to_come(runner, hook, folder)
        free = shutil.disk_usage(existing).free
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f'the checkpoints of this training need about {needed / 1e9:.1f} GB, and '
                f'{free / 1e9:.1f} GB are free; make room, choose another --work-dir, keep '
                'fewer (default_hooks.checkpoint.max_keep_ckpts, interval), or leave this '
                'check out: default_hooks.sanity_check.disk_space=False',
                str(folder),
            )


def _bytes_to_come(runner: Runner, hook: CheckpointHook, folder: Path) -> int:
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    averages = sum(isinstance(other, EMAHook) for other in runner.hooks)
    sizes = checkpoint_sizes(model, runner.optim_wrapper, averages, hook.save_optimizer)
    done, end = (
        (runner.epoch, runner.max_epochs)
        if hook.by_epoch
        else (runner.iter, runner.max_iters)
    )
    to_write = (end - done) // hook.interval if hook.interval > 0 else 0
    to_write += int(hook.save_last and (hook.interval <= 0 or end % hook.interval > 0))
    if hook.max_keep_ckpts > 0:
        kept = runner.message_hub.get_info('keep_ckpt_ids', [])
        present = sum(
            (folder / hook.filename_tmpl.format(number)).is_file() for number in kept
        )
        to_write = min(to_write, hook.max_keep_ckpts + 1 - present)
    best = len(hook.save_best or ())
    return max(to_write, 0) * sizes.full + (best + 1) * sizes.best * bool(best)
