"""Optimisations of the training step, each of which can be taken away.

A variant computes the same (unless it says otherwise) in the straightforward way.
"""
from contextlib import contextmanager
from typing import Callable, ContextManager, Dict, Iterator, List, NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..localization import refinement
from .stages import replaced


class Variant(NamedTuple):
    """One optimisation and what a step without it looks like."""

    absent: Callable[[nn.Module], ContextManager]
    """Takes the optimisation away from the model within a block."""
    stages: Tuple[str, ...]
    """Names of the stages that it concerns; * stands for any characters."""
    description: str
    """What is done instead."""


class _ExplicitAttention(TorchFunctionMode):
    """Attention as ``softmax(q k^T / sqrt(d)) v``, its matrices in memory."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.keep = keep
        self.matrices: List[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        logits = query @ key.transpose(-2, -1) * query.shape[-1]**-.5
        matrix = logits.softmax(dim=-1)
        if self.keep:
            self.matrices.append(matrix)
        return matrix @ value


@contextmanager
def _explicit_attention(model: nn.Module, keep: bool = False) -> Iterator[None]:
    """Without fused attention. ``keep``: until the pass through the ViT is over."""
    mode = _ExplicitAttention(keep)
    hook = model.backbone.register_forward_hook(
        lambda *args: mode.matrices.clear())
    try:
        with mode:
            yield
    finally:
        hook.remove()


@contextmanager
def _kept_attention(model: nn.Module) -> Iterator[None]:
    with _explicit_attention(model, keep=True):
        yield


@contextmanager
def _repeated_scale_1(model: nn.Module) -> Iterator[None]:
    """The CAM passes run the images at scale 1 once more."""
    shared = model.training_cams

    def repeated(inputs, tokens):
        with torch.no_grad():
            tokens = model.backbone(inputs)
        return shared(inputs, tokens)

    with replaced(model, 'training_cams', repeated):
        yield


@contextmanager
def _affinity_per_run(model: nn.Module) -> Iterator[None]:
    """PAR computes its affinity for both of its runs."""
    affinity = refinement.pixel_affinity

    def twice(*args, **kwargs):
        affinity(*args, **kwargs)
        return affinity(*args, **kwargs)

    with replaced(refinement, 'pixel_affinity', twice):
        yield


@contextmanager
def _all_classes(model: nn.Module) -> Iterator[None]:
    """PAR runs on the maps of all K classes (its labels differ)."""
    refined = model.pseudo_labeler.refined_labels

    def on_all(images, cam, image_labels):
        return refined(images, cam, torch.ones_like(image_labels))

    with replaced(model.pseudo_labeler, 'refined_labels', on_all):
        yield


VARIANTS: Dict[str, Variant] = dict(
    attention=Variant(
        _explicit_attention, ('forward', 'backward', 'cam_x*'),
        'attention matrices computed, and kept for the backward pass'),
    attention_kept=Variant(
        _kept_attention, ('forward', 'backward', 'cam_x*'),
        'attention matrices of all blocks kept until each pass is over'),
    scale_1=Variant(
        _repeated_scale_1, ('cam_x1', ), 'scale 1 of the CAM run again'),
    par_affinity=Variant(
        _affinity_per_run, ('par', ), 'affinity of PAR computed per run'),
    par_classes=Variant(
        _all_classes, ('par', ), 'PAR on the maps of all classes'))
"""Name -> variant."""
