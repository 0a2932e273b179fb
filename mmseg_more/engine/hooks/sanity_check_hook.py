"""Stops a run whose config or checkpoint does not fit, and says why."""

import re
from collections import OrderedDict
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmseg.registry import HOOKS

from ...datasets.image_labels import name_few
from ...models import MoRe
from ..amp_hint import amp_hint
from ..config_check import check_config
from ..distributed import on_main_process
from ..training_checks import (
    check_classes,
    check_disk_space,
    check_images,
    check_text_classes,
    check_writable,
)
from .utils import innermost, trains

# Beginnings of names that the official MoRe code has, and this package has not
_OFFICIAL = ('encoder.blocks.', 'graph_layer.')

_FROM_SCRATCH = f"""
{'*' * 78}
THIS TRAINING STARTS FROM RANDOM WEIGHTS. Neither pretrained weights nor a checkpoint
were given. The method, its schedules and its thresholds are made for a ViT that has been
pretrained; from random weights such a training takes as long, and its maps mean little.

Name the file of a pretrained ViT (docs/backbones.md):
    --cfg-options model.pretrained=FILE
or a checkpoint of MoRe:
    --cfg-options load_from=FILE

If random weights are meant, say so, and this warning goes away:
    default_hooks=dict(sanity_check=dict(type='SanityCheckHook', from_scratch=True))
{'*' * 78}"""

Shapes = Tuple[Tuple[int, ...], Tuple[int, ...]]


@HOOKS.register_module()
class SanityCheckHook(Hook):
    """Stop at the start on what would cost a run hours.

    * A misspelled config key, which MMEngine ignores, and a checkpoint that does not fit,
      which it answers with a warning and random weights where shapes or names differ. If
      only some names are missing on either side, that remains its warning in a training. A
      test, whose figures or masks would be taken for those of the checkpoint, stops where
      weights are missing or not numbers (:func:`load_whole`).
    * Before a training: a work folder that cannot be written, less free disk space than the
      checkpoints will take, training images that cannot be read, classes that no
      training image shows, and text vectors of other classes. Thresholds of
      ``model.pseudo_label`` that are out of order are an error of the model itself, when
      it is built.

    A training of MoRe on a CPU that is much faster in bfloat16 gets a line in the log that
    says so. A training that begins with random weights of the backbone gets a warning that
    nobody misses: it takes days and comes to nothing but on small, simple data.

    Args:
        from_scratch: Whether random weights are meant: no warning. Defaults to
            False.
        may_lack: Beginnings of the names of weights that the checkpoint of
            a test need not hold, since its results do not depend on them: an auxiliary
            head of another segmentor, say. Defaults to none; a MoRe uses all it has.
        num_images: How many of the training images are decoded, a random sample. 5 ms
            each for those of VOC. Of a data set in which one in a hundred is broken, 100
            find one with a probability of 63 %. One that cannot be read stops the start,
            when it costs a minute to mend, whatever ``max_broken`` of the data set leaves
            out later on. Defaults to 100.
        classes_without_images: Whether classes that no training image shows are
            meant. Defaults to False.
        disk_space: Whether to compare the free disk space with an estimate.
            Defaults to True.

    Raises:
        ValueError: Before anything is trained; of a config, a checkpoint or the data.
        OSError: Of the work folder and its disk.

    Example:
        >>> default_hooks = dict(sanity_check=dict(type='SanityCheckHook'))
        >>> default_hooks = dict(
        ...     sanity_check=dict(type='SanityCheckHook', may_lack=['auxiliary_head.']))
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        from_scratch: bool = False,
        may_lack: Sequence[str] = (),
        num_images: int = 100,
        classes_without_images: bool = False,
        disk_space: bool = True,
    ) -> None:
        if isinstance(may_lack, str):
            raise ValueError(
                f'may_lack must be a list of beginnings of names, got {may_lack!r}'
            )
        if num_images < 0:
            raise ValueError(f'num_images must be at least 0, got {num_images}')
        self.from_scratch = from_scratch
        self.may_lack = tuple(may_lack)
        self.num_images = num_images
        self.classes_without_images = classes_without_images
        self.disk_space = disk_space
        self._loaded = False

    def before_run(self, runner: Runner) -> None:
        """Check the config, before anything of it has taken time."""
        check_config(runner.cfg)

    def before_train(self, runner: Runner) -> None:
        """Look at data and disk; then warn of random weights.

        Pretrained ones and checkpoints are loaded by now.
        """
        on_main_process(lambda: self._check_training(runner))
        model = innermost(runner.model, augmentation=False)
        if isinstance(model, MoRe):
            on_main_process(lambda: self._check_text(runner, model))
            on_main_process(lambda: self._hint_at_amp(runner, model))
        if self.from_scratch or self._loaded or not isinstance(model, MoRe):
            return
        if not (model.init_cfg or model.backbone.init_cfg):
            runner.logger.warning(_FROM_SCRATCH)

    @staticmethod
    def _check_text(runner: Runner, model: MoRe) -> None:
        if model.text_classifier is not None:
            check_text_classes(model.text_classifier.file, runner.train_dataloader.dataset)

    @staticmethod
    def _hint_at_amp(runner: Runner, model: MoRe) -> None:
        size = model.data_preprocessor.size
        hint = size and amp_hint(model, runner.optim_wrapper, size)
        if hint:
            runner.logger.info(hint)

    def _check_training(self, runner: Runner) -> None:
        check_writable(runner.work_dir)
        if self.disk_space:
            check_disk_space(runner)
        dataset = runner.train_dataloader.dataset
        if not self.classes_without_images:
            check_classes(dataset)
        check_images(dataset, self.num_images, runner.seed or 0)

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Check the shapes, before the checkpoint is copied into the model.

        For a test, that it is whole too.
        """
        self._loaded = True
        model = innermost(runner.model)
        state_dict = weights_of(checkpoint)
        check_state_dict(model, state_dict)
        if not trains(runner):
            load_whole(model, state_dict, self.may_lack)


def weights_of(checkpoint: Any) -> Mapping[str, torch.Tensor]:
    """The weights in what a file holds: a checkpoint of a training, or a state dict.

    Raises:
        ValueError: If it is neither.
    """
    is_mapping = isinstance(checkpoint, Mapping)
    weights = checkpoint.get('state_dict', checkpoint) if is_mapping else checkpoint
    if not isinstance(weights, Mapping):
        raise ValueError(
            f'the checkpoint holds an object of type {type(weights).__name__}, not the '
            'weights of a model by their names: give a checkpoint of a training, or a '
            'state dict'
        )
    return weights


def check_state_dict(model: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Raise if no weight, one of another shape, or LoRA without a place, would be loaded.

    Args:
        model: The model, without wrappers.
        state_dict: The checkpoint's weights, with or without ``module.`` in front.

    Raises:
        ValueError: Naming the weights, both shapes and, where a classifier differs, the
            number of classes of both.
    """
    own = model.state_dict()
    found = {re.sub(r'^module\.', '', key): value for key, value in state_dict.items()}
    common = [key for key in found if key in own]
    # its classifiers have our names
    if any(key.startswith(_OFFICIAL) for key in found) and not any(
        key.startswith(_OFFICIAL) for key in own
    ):
        raise ValueError(
            'this is a checkpoint of the official MoRe code: convert it by '
            'tools/model_converters/official2mmseg.py '
            '(mmseg_more.checkpoints.convert_official).'
        )
    if _with_lora(found) and not _with_lora(own):
        raise ValueError(
            'this is a checkpoint of a backbone with LoRA, the model has none: give it the '
            'same model.backbone.lora, or merge the checkpoint first '
            '(MoReViT.merge_lora, docs/backbones.md)'
        )
    if not common:
        raise ValueError(
            'no weight of the checkpoint has the name of one of the model: it has '
            f'{", ".join(list(found)[:3])}, ..., the model {", ".join(list(own)[:3])}, '
            '.... If it is an official MoRe checkpoint, convert it by '
            'tools/model_converters/official2mmseg.py; a plain ViT goes into '
            'model.pretrained, not load_from.'
        )
    different = {
        key: (tuple(found[key].shape), tuple(own[key].shape))
        for key in common
        if found[key].shape != own[key].shape
    }
    if different:
        raise ValueError(_message(different))


def _with_lora(names: Iterable[str]) -> bool:
    return any('.lora_' in name for name in names)


def load_whole(
    model: nn.Module, state_dict: Mapping[str, torch.Tensor], may_lack: Sequence[str] = ()
) -> List[str]:
    """Load weights that results are to rest on: all of them, and numbers.

    The counters of batch norm, ``num_batches_tracked``, may be missing, as for MMEngine:
    nothing that is computed depends on them.

    Args:
        model: The model, without wrappers; changed.
        state_dict: The checkpoint's weights, with or without ``module.`` in front.
        may_lack: Beginnings of other names that may be missing.

    Returns:
        Names of the checkpoint for which the model has no place.

    Raises:
        ValueError: If weights are missing, or as :func:`check_numbers`; names them.
    """
    weights = OrderedDict(
        (re.sub(r'^module\.', '', key), value) for key, value in state_dict.items()
    )
    # the versions of the parts, by which these read what older ones have written
    weights._metadata = getattr(state_dict, '_metadata', None)  # type: ignore[attr-defined]
    keys = model.load_state_dict(weights, strict=False)
    missing = [
        key
        for key in keys.missing_keys
        if not key.endswith('num_batches_tracked') and not key.startswith(tuple(may_lack))
    ]
    if missing:
        raise ValueError(
            f'the checkpoint lacks {len(missing)} weights of the model, which would be '
            f'random ({name_few(missing)}): use the config it was trained with, or another '
            'checkpoint. Weights on which the results of a test do not depend can be '
            "allowed: default_hooks.sanity_check=dict(type='SanityCheckHook', "
            'may_lack=[beginnings of names])'
        )
    check_numbers(model)
    return list(keys.unexpected_keys)


def check_numbers(model: nn.Module) -> None:
    """Raise if a weight of the model is not a number.

    Args:
        model: The model. NaN is wrong anywhere, infinity in a parameter (a
            buffer may hold it, as a mask of attention does).

    Raises:
        ValueError: Naming the weights.
    """
    wrong = [
        name
        for name, value in model.named_parameters()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    wrong += [
        name
        for name, value in model.named_buffers()
        if value.is_floating_point() and value.isnan().any()
    ]
    if wrong:
        raise ValueError(
            f'{len(wrong)} weights are not numbers (NaN or infinite): {name_few(wrong)}. '
            'The training that they are from has failed: use an earlier checkpoint of it'
        )


def _message(different: Dict[str, Shapes]) -> str:
    # a 1x1 convolution (K, D, 1, 1) or a linear layer (K, D): same D, another K
    classifiers: List[Tuple[str, int, int]] = [
        (key, theirs[0], ours[0])
        for key, (theirs, ours) in different.items()
        if 'classifier' in key and theirs[1:] == ours[1:]
    ]
    shown = '; '.join(
        f'{key} is {theirs} in the checkpoint, {ours} in the model'
        for key, (theirs, ours) in list(different.items())[:3]
    )
    if len(different) > 3:
        shown += f'; and {len(different) - 3} more'
    if classifiers:
        key, theirs, ours = classifiers[0]
        return (
            f'the checkpoint was trained for K={theirs} classes, the model is built '
            f'for K={ours} (without background). Use the config it was trained with, '
            f'or set model.num_classes={theirs} (its parts follow where they do not say '
            f'it themselves); to fine-tune on other classes, start from a pretrained '
            f'backbone (model.backbone.init_cfg) instead of load_from. [{shown}]'
        )
    return (
        'the checkpoint does not fit the model. Use the config it was trained with '
        f'(its model.backbone.arch, img_size, num_registers, ...). [{shown}]'
    )
