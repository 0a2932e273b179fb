"""Optimisations of the training step that the product can go without.

Each is an option of the config, an argument of a function, or the function with which a
block attends: the comparison sets it to what computes the same in the straightforward way.
"""

import sys
from contextlib import contextmanager
from typing import Any, Callable, ContextManager, Dict, Iterator, List, NamedTuple, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from mmseg_more.localization.bilateral import choose_backend
from mmseg_more.models.backbones import encoder_layer


class StepOption(NamedTuple):
    """An optimisation that a whole step can be run without."""

    absent: Callable[[nn.Module, Tensor], ContextManager]
    """Takes it away from a model, for a batch of images, within a block."""
    stages: Tuple[str, ...]
    """Names of the stages that it concerns; * stands for any characters."""
    description: str
    """What is done instead."""


class CamArgument(NamedTuple):
    """An optimisation that is an argument of ``training_cams``: that call is measured."""

    name: str
    """The argument; None takes the optimisation away."""
    description: str
    """What is done instead."""


@contextmanager
def _option(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value, and undo that."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _explicit_attention(
    model: nn.Module, images: Tensor, keep: bool = False
) -> Iterator[None]:
    """Attention as ``softmax(q k^T / sqrt(d)) v``, its matrices in memory.

    ``keep``: until the pass through the ViT is over.
    """
    matrices: List[Tensor] = []

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        matrix = logits.softmax(dim=-1)
        if keep:
            matrices.append(matrix)
        return matrix @ value

    hook = model.backbone.register_forward_hook(lambda *_: matrices.clear())
    with hook, _option(encoder_layer, 'attend', attend):
        yield


def _fused_attention(model: nn.Module, images: Tensor) -> ContextManager:
    return _option(encoder_layer, 'attend', F.scaled_dot_product_attention)


def _whole_passes(model: nn.Module, images: Tensor) -> ContextManager:
    """``localization.chunk_size``: CAM passes run all images at once."""
    return _option(model.localizer, 'chunk_size', sys.maxsize)


@contextmanager
def _straightforward(model: nn.Module, images: Tensor) -> Iterator[None]:
    with _explicit_attention(model, images, keep=True), _whole_passes(model, images):
        yield


def _other_backend(model: nn.Module, images: Tensor) -> ContextManager:
    """``losses.energy.backend``: the one that is not chosen for such a batch."""
    losses = model.loss_schedule.losses
    if 'energy' not in losses:
        raise ValueError('--compare energy: the energy is no loss of this config')
    loss = losses['energy']
    batch_size, _, height, width = images.shape
    probs = images.new_empty(1).expand(
        batch_size,
        model.num_classes + 1,
        int(height * loss.scale_factor),
        int(width * loss.scale_factor),
    )
    chosen = choose_backend(loss.backend, probs)
    return _option(loss, 'backend', 'lattice' if chosen == 'pydensecrf' else 'pydensecrf')


@contextmanager
def _all_trained(model: nn.Module, images: Tensor) -> Iterator[None]:
    """``backbone.frozen_stages``, ``backbone.lora``: all weights get a gradient.

    The optimizer, which knows no more weights than before, would leave them: each is
    dropped as soon as it is there.
    """
    frozen = [p for p in model.backbone.parameters() if not p.requires_grad]
    hooks = []
    for parameter in frozen:
        parameter.requires_grad_(True)
        hooks.append(parameter.register_post_accumulate_grad_hook(_drop_gradient))
    try:
        yield
    finally:
        for parameter, hook in zip(frozen, hooks):
            hook.remove()
            parameter.requires_grad_(False)


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


STEP_OPTIONS: Dict[str, StepOption] = dict(
    attention=StepOption(
        _explicit_attention,
        ('forward', 'backward', 'cam_x*'),
        'attention matrices computed, and kept for the backward pass',
    ),
    attention_blocks=StepOption(
        _fused_attention,
        ('cam_x*',),
        "PyTorch's attention in bfloat16 on a CPU, where no gradient is asked for",
    ),
    chunks=StepOption(_whole_passes, ('cam_x*',), 'CAM passes of all images at once'),
    straightforward=StepOption(
        _straightforward,
        ('forward', 'backward', 'cam_x*'),
        'both: attention matrices of all blocks kept until each pass over all images '
        'is over',
    ),
    energy=StepOption(
        _other_backend,
        ('energy',),
        'energy by the backend that is not chosen, of lattice and pydensecrf',
    ),
    frozen=StepOption(
        _all_trained,
        ('forward', 'backward'),
        'gradients of all weights, also of those that the config freezes',
    ),
)
CAM_ARGUMENTS: Dict[str, CamArgument] = dict(
    scale_1=CamArgument('tokens', 'scale 1 of the CAM run again'),
    present_classes=CamArgument('classes', 'CAMs of all classes at full size'),
)
OPTIMISATIONS: Dict[str, str] = {
    name: optimisation.description
    for name, optimisation in {**STEP_OPTIONS, **CAM_ARGUMENTS}.items()
}
"""Name -> what is done instead, of all of them."""
