"""Optimisations of the training step, each of which can be taken away.

A variant computes the same (unless it says otherwise) in the straightforward way.
"""

import sys
from contextlib import contextmanager
from typing import (
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..localization import bilateral, refinement
from ..localization.present import PresentClasses
from ..models.segmentors import more
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
        logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        matrix = logits.softmax(dim=-1)
        if self.keep:
            self.matrices.append(matrix)
        return matrix @ value


@contextmanager
def _explicit_attention(model: nn.Module, keep: bool = False) -> Iterator[None]:
    """Without fused attention. ``keep``: until the pass through the ViT is over."""
    mode = _ExplicitAttention(keep)
    hook = model.backbone.register_forward_hook(lambda *args: mode.matrices.clear())
    try:
        with mode:
            yield
    finally:
        hook.remove()


@contextmanager
def _whole_passes(model: nn.Module) -> Iterator[None]:
    """CAM passes run all images at once."""
    with replaced(model, 'chunk_size', sys.maxsize):
        yield


@contextmanager
def _straightforward(model: nn.Module) -> Iterator[None]:
    with _explicit_attention(model, keep=True), _whole_passes(model):
        yield


@contextmanager
def _repeated_scale_1(model: nn.Module) -> Iterator[None]:
    """The CAM passes run the images at scale 1 once more."""
    shared = model.training_cams

    def repeated(inputs, tokens, *args):
        with torch.no_grad():
            tokens = model.backbone(inputs)
        return shared(inputs, tokens, *args)

    with replaced(model, 'training_cams', repeated):
        yield


@contextmanager
def _cam_graphs(model: nn.Module) -> Iterator[None]:
    """The CAM passes record what a gradient would need, until the CAMs are done."""
    cams, encode = model.training_cams, model.backbone.forward
    graphs: Optional[list] = None

    def with_graphs(*args, **kwargs):
        nonlocal graphs
        graphs = []
        try:
            return cams(*args, **kwargs)
        finally:
            graphs = None

    def forward(*args, **kwargs):
        if graphs is None:
            return encode(*args, **kwargs)
        with torch.enable_grad():
            tokens = encode(*args, **kwargs)
        graphs.append(tokens)
        return type(tokens)(*(t if t is None else t.detach() for t in tokens))

    with (
        replaced(model, 'training_cams', with_graphs),
        replaced(model.backbone, 'forward', forward),
    ):
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
    """CAMs of all K classes are made at full size and become labels."""

    def everything(image_labels, max_classes):
        batch_size, classes = image_labels.shape
        index = torch.arange(classes, device=image_labels.device)
        return PresentClasses(index.expand(batch_size, -1), (image_labels > 0).float())

    with replaced(more, 'present_classes', everything):
        yield


@contextmanager
def _par_on_all_classes(model: nn.Module) -> Iterator[None]:
    """PAR refines the maps of all K classes (its labels differ)."""
    refined = model.pseudo_labeler.refined_labels

    def on_all(images, cam, real, max_classes):
        return refined(images, cam, torch.ones_like(real))

    with _all_classes(model), replaced(model.pseudo_labeler, 'refined_labels', on_all):
        yield


@contextmanager
def _other_backend(model: nn.Module) -> Iterator[None]:
    """The energy is filtered by the backend that is not chosen."""
    choose = bilateral.choose_backend

    def other(*args, **kwargs):
        chosen = choose(*args, **kwargs)
        return 'lattice' if chosen == 'pydensecrf' else 'pydensecrf'

    with replaced(bilateral, 'choose_backend', other):
        yield


VARIANTS: Dict[str, Variant] = dict(
    attention=Variant(
        _explicit_attention,
        ('forward', 'backward', 'cam_x*'),
        'attention matrices computed, and kept for the backward pass',
    ),
    chunks=Variant(_whole_passes, ('cam_x*',), 'CAM passes of all images at once'),
    straightforward=Variant(
        _straightforward,
        ('forward', 'backward', 'cam_x*'),
        'both: attention matrices of all blocks kept until each pass over all images '
        'is over',
    ),
    scale_1=Variant(_repeated_scale_1, ('cam_x1',), 'scale 1 of the CAM run again'),
    cam_no_grad=Variant(
        _cam_graphs, ('cam_x*',), 'CAM passes that record a graph for a gradient'
    ),
    energy=Variant(
        _other_backend,
        ('energy',),
        'energy by the backend that is not chosen, of lattice and pydensecrf',
    ),
    par_affinity=Variant(_affinity_per_run, ('par',), 'affinity of PAR computed per run'),
    present_classes=Variant(
        _all_classes, ('cam_maps', 'labels', 'par'), 'CAMs of all classes at full size'
    ),
    par_classes=Variant(
        _par_on_all_classes,
        ('cam_maps', 'labels', 'par'),
        'CAMs of all classes at full size, and PAR on all of them',
    ),
)
"""Name -> variant."""
