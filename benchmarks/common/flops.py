"""Arithmetic of MoRe's network, counted analytically.

A multiply-add is 2 FLOPs. Counted are the matrix products: the linear layers of the ViT
(2 x weights x tokens), its attention (``4 T^2 D`` per block and image, T tokens), the
patch embedding, GCR and the heads. Left out is everything that is no product of the
network: norms, activations, the losses, PAR. The backward pass of a product is two
products of the same size; the gradients of the image and of frozen weights alone are not
needed. A recomputed activation and the backward pass of fused attention, which computes its
matrix again, are work of an implementation and not arithmetic that is needed: they are not
counted.
"""

from typing import Dict, NamedTuple, Sequence, Tuple

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmseg_more.localization import scaled_size

Size = Tuple[int, int]


class StepFlops(NamedTuple):
    """FLOPs of one training step."""

    forward: int
    """Backbone, GCR and heads on the batch."""
    backward: int
    """Gradient of ``forward``."""
    cam: Dict[float, int]
    """Passes of the multi-scale CAM by scale. The forward pass serves scale 1 too:
    only its flip is run again."""

    @property
    def total(self) -> int:
        return self.forward + self.backward + sum(self.cam.values())


def _weights(module: nn.Module, kind: type) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, kind))


def grid_of(backbone: nn.Module, size: Size) -> Size:
    """Patches ``(h, w)`` of an image of ``size`` pixels."""
    return size[0] // backbone.patch_size, size[1] // backbone.patch_size


def _num_patches(backbone: nn.Module, size: Size) -> int:
    height, width = grid_of(backbone, size)
    return height * width


def num_tokens(backbone: nn.Module, size: Size) -> int:
    """Registers, classes and patches of an image of ``size`` pixels."""
    return backbone.num_extra_tokens + _num_patches(backbone, size)


def patch_embed_flops(backbone: nn.Module, images: int, size: Size) -> int:
    """FLOPs that turn ``images`` of ``size`` pixels into patches."""
    return (
        2
        * images
        * _num_patches(backbone, size)
        * _weights(backbone.patch_embed, nn.Conv2d)
    )


def backbone_flops(backbone: nn.Module, images: int, size: Size) -> int:
    """FLOPs of one forward pass of the ViT.

    Args:
        backbone: :class:`MoReViT`.
        images: Number of images, flips included.
        size: ``(H, W)`` in pixels.
    """
    tokens = num_tokens(backbone, size)
    linear = 2 * tokens * _weights(backbone.layers, nn.Linear)
    attention = 4 * tokens**2 * backbone.embed_dims * len(backbone.layers)
    return images * (linear + attention) + patch_embed_flops(backbone, images, size)


def frozen_flops(backbone: nn.Module, images: int, size: Size) -> int:
    """FLOPs of the gradients of weights that are not trained: nobody needs them.

    Those of the tokens between frozen blocks are needed, as the first ones are trained.
    """
    frozen = sum(
        m.weight.numel()
        for m in backbone.layers.modules()
        if isinstance(m, nn.Linear) and not m.weight.requires_grad
    )
    flops = 2 * images * num_tokens(backbone, size) * frozen
    if not backbone.patch_embed.projection.weight.requires_grad:
        flops += patch_embed_flops(backbone, images, size)
    return flops


def decode_head_flops(head: nn.Module, images: int, grid: Size) -> int:
    """FLOPs of the segmentation head on a grid of ``(h, w)`` patches."""
    return 2 * images * grid[0] * grid[1] * _weights(head, nn.Conv2d)


def graph_flops(graph: nn.Module, images: int, classes: int, patches: int) -> int:
    """FLOPs of GCR: four linear layers, scores, messages."""
    dims = graph.embed_dims
    candidates = patches + (0 if graph.tail == 'patches' else classes)
    linear = dims**2 * (3 * classes + candidates)
    scores = classes * candidates * dims
    neighbors = graph.num_neighbors or int(graph.neighbor_ratio * classes)
    messages = classes * min(max(neighbors, 1), candidates) * dims
    return 2 * images * (linear + scores + messages)


def classifier_flops(model: nn.Module, images: int, positions: int) -> int:
    """FLOPs of one of both classifiers at ``positions`` per image."""
    return 2 * images * positions * model.classifier.weight.numel()


def training_step_flops(
    model: nn.Module, batch_size: int, size: Size, iteration: int
) -> StepFlops:
    """FLOPs that one training step needs.

    Args:
        model: The segmentor :class:`MoRe`.
        batch_size: B.
        size: ``(H, W)`` of the training images in pixels.
        iteration: 0-based iteration: it says which losses count.
    """
    backbone, grid = model.backbone, grid_of(model.backbone, size)
    patches = grid[0] * grid[1]
    active = model.loss_schedule.active(iteration)
    forward = backbone_flops(backbone, batch_size, size)
    forward += 2 * classifier_flops(model, batch_size, 1)
    if active.need_refined_labels:
        forward += decode_head_flops(model.decode_head, batch_size, grid)
    if active.need_class_tokens and model.graph is not None:
        forward += graph_flops(model.graph, batch_size, model.num_classes, patches)
    cam = {}
    for scale in model.localizer.scales if active.need_maps else ():
        scaled = scaled_size(size, scale)
        shared = scaled == tuple(size)
        images = batch_size if shared else 2 * batch_size
        cam[scale] = backbone_flops(backbone, images, scaled) + 2 * classifier_flops(
            model, 2 * batch_size, _num_patches(backbone, scaled)
        )
    backward = 2 * forward - patch_embed_flops(backbone, batch_size, size)
    backward -= frozen_flops(backbone, batch_size, size)
    return StepFlops(forward, backward, cam)


def shared_passes_flops(
    model: nn.Module,
    images: int,
    size: Size,
    map_scales: Sequence[float],
    seg_scales: Sequence[float] = (),
) -> int:
    """FLOPs of CAM, LAM and segmentation from one set of passes over image and flip.

    Args:
        model: The segmentor :class:`MoRe`.
        images: Number of images, flips not counted.
        size: ``(H, W)`` in pixels.
        map_scales: Scales of CAM and LAM.
        seg_scales: Scales of the segmentation; scale 1 is always run.
    """
    total, classes = 0, model.num_classes
    for scale in {1.0, *map_scales, *seg_scales}:
        scaled, pair = scaled_size(size, scale), 2 * images
        grid = grid_of(model.backbone, scaled)
        patches = grid[0] * grid[1]
        total += backbone_flops(model.backbone, pair, scaled)
        if scale in map_scales:
            total += classifier_flops(model, pair, patches)
            total += 2 * pair * classes * patches * model.backbone.embed_dims  # Q P^T
            if model.graph is not None:
                total += graph_flops(model.graph, pair, classes, patches)
        if scale == 1 or scale in seg_scales:
            total += decode_head_flops(model.decode_head, pair, grid)
    return total


def loss_flops(model: nn.Module, batch_size: int, size: Size, iteration: int) -> int:
    """FLOPs of the matrix products within the losses, backward pass included.

    No part of the network's arithmetic; here to account for all that a counter sees.
    """
    patches, dims = _num_patches(model.backbone, size), model.backbone.embed_dims
    classes = model.num_classes
    products = dict(
        mct=classes**2 * dims,  # Q Q^T
        ptc=patches**2 * dims,  # P^T P
        cre=classes * patches * dims,
    )  # Q P
    # Q P: the patches are detached and get no gradient
    factors = dict(mct=6, ptc=6, cre=4)
    return batch_size * sum(
        factors[name] * products[name]
        for name in model.loss_schedule.active(iteration).names
        if name in products
    )


def counted_flops(function, *args) -> Dict[str, int]:
    """FLOPs that PyTorch's counter sees while ``function(*args)`` runs.

    Attention runs as plain products: the counter then sees the arithmetic, without what
    a fused kernel computes twice.

    Returns:
        FLOPs by operation, and their sum as ``total``.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function(*args)
    counts = {
        str(op): int(count)
        for op, count in counter.get_flop_counts().get('Global', {}).items()
    }
    return dict(counts, total=counter.get_total_flops())
