"""Hands the images of a batch to losses of decode heads that compare with them."""

from typing import Any, List, Optional, Tuple

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmseg.registry import HOOKS

from ...models.losses import DenseEnergyLoss
from .utils import innermost


@HOOKS.register_module()
class LossImagesHook(Hook):
    """Let ``DenseEnergyLoss`` be the ``loss_decode`` of any head in any segmentor.

    The loss compares the segmentation with the image, and MMSegmentation's heads call their
    losses with logits and labels alone. During a training this hook notes the images that
    the model is called with, and adds them, de-normalised, to the calls of these losses.
    MoRe hands them on by itself and does not need it.

    Raises:
        ValueError: At the start of the training, if the model has no such loss.

    Example:
        >>> model = dict(decode_head=dict(loss_decode=[
        ...     dict(type='CrossEntropyLoss'),
        ...     dict(type='DenseEnergyLoss', loss_weight=0.05)]))
        >>> custom_hooks = [dict(type='LossImagesHook')]
    """

    def __init__(self) -> None:
        self._images: Optional[Tensor] = None
        self._handles: List[RemovableHandle] = []

    def before_train(self, runner: Runner) -> None:
        """Begin with the model of the runner."""
        self.attach(innermost(runner.model))

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self.detach()

    def attach(self, model: nn.Module) -> None:
        """Hand the images of all further calls of a segmentor to its losses.

        Args:
            model: The segmentor, without wrappers.

        Raises:
            ValueError: If none of its losses compares with images.
        """
        losses = [part for part in model.modules() if isinstance(part, DenseEnergyLoss)]
        if not losses:
            raise ValueError(
                f'LossImagesHook: no loss of {type(model).__name__} compares with images; '
                "add dict(type='DenseEnergyLoss') to a loss_decode, or remove the hook"
            )
        hooks = [(model, self._note_images), *((loss, self._add_images) for loss in losses)]
        for module, hook in hooks:
            self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def detach(self) -> None:
        """Take :meth:`attach` back."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._images = [], None

    def _note_images(self, model: nn.Module, args: Tuple, kwargs: dict) -> None:
        inputs = kwargs['inputs'] if 'inputs' in kwargs else args[0]
        preprocessor: Any = model.data_preprocessor
        images = inputs.detach().float()
        if hasattr(preprocessor, 'mean'):  # it normalises
            images = images * preprocessor.std + preprocessor.mean
        self._images = images

    def _add_images(
        self, loss: nn.Module, args: Tuple, kwargs: dict
    ) -> Optional[Tuple[Tuple, dict]]:
        if len(args) > 2 or 'images' in kwargs:  # it has them already
            return None
        return args, {**kwargs, 'images': self._images}
