"""Stops a run whose config or checkpoint does not fit, and says why."""

import re
from typing import Any, Dict, List, Mapping, Tuple

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmseg.registry import HOOKS

from ...models import MoRe
from ..config_check import check_config
from ..distributed import on_main_process
from ..training_checks import check_classes, check_disk_space, check_images, check_writable
from .utils import innermost

# Beginnings of names that the official MoRe code has, and this package has not
_OFFICIAL = ('encoder.blocks.', 'graph_layer.')

_FROM_SCRATCH = f"""
{'*' * 78}
THIS TRAINING STARTS FROM RANDOM WEIGHTS. Neither pretrained weights nor a checkpoint
were given. The method, its schedules and its thresholds are made for a ViT that has been
pretrained; from random weights such a training takes as long, and its maps mean little.

Name the file of a plain ViT, in timm's or mmpretrain's names:
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
      only some names are missing on either side, that remains its warning.
    * Before a training: a work folder that cannot be written, less free disk space than the
      checkpoints will take, training images that cannot be read, and classes that no
      training image shows. Thresholds of ``model.pseudo_label`` that are out of order are
      an error of the model itself, when it is built.

    A training of MoRe that begins with random weights of the backbone gets a warning that
    nobody misses: it takes days and comes to nothing but on small, simple data.

    Args:
        from_scratch (bool): Whether random weights are meant: no warning. Defaults to
            False.
        num_images (int): How many of the training images are decoded, a random sample. 5 ms
            each for those of VOC. Of a data set in which one in a hundred is broken, 100
            find one with a probability of 63 %. Defaults to 100.
        classes_without_images (bool): Whether classes that no training image shows are
            meant. Defaults to False.
        disk_space (bool): Whether to compare the free disk space with an estimate.
            Defaults to True.

    Raises:
        ValueError: Before anything is trained; of a config, a checkpoint or the data.
        OSError: Of the work folder and its disk.

    Example:
        >>> default_hooks = dict(sanity_check=dict(type='SanityCheckHook'))
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        from_scratch: bool = False,
        num_images: int = 100,
        classes_without_images: bool = False,
        disk_space: bool = True,
    ) -> None:
        if num_images < 0:
            raise ValueError(f'num_images must be at least 0, got {num_images}')
        self.from_scratch = from_scratch
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
        if self.from_scratch or self._loaded or not isinstance(model, MoRe):
            return
        if not (model.init_cfg or model.backbone.init_cfg):
            runner.logger.warning(_FROM_SCRATCH)

    def _check_training(self, runner: Runner) -> None:
        check_writable(runner.work_dir)
        if self.disk_space:
            check_disk_space(runner)
        dataset = runner.train_dataloader.dataset
        if not self.classes_without_images:
            check_classes(dataset)
        check_images(dataset, self.num_images, runner.seed or 0)

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Check the shapes, before the checkpoint is copied into the model."""
        self._loaded = True
        check_state_dict(innermost(runner.model), checkpoint.get('state_dict', checkpoint))


def check_state_dict(model: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Raise if no weight, or a weight of another shape, would be loaded.

    Args:
        model (nn.Module): The model, without wrappers.
        state_dict (dict): The checkpoint's weights, with or without ``module.`` in front.

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
