"""Whether an exported network computes what the segmentor does."""

from typing import Callable, List, Sequence, Tuple

import torch
from torch import Tensor

from .graphs import DeployedGraph

TOLERANCE = 1e-4
"""Largest difference from the segmentor that counts as rounding: of the largest value where
that is above 1."""


def check_sizes(graph: DeployedGraph) -> List[Tuple[int, int, int]]:
    """Batch size, height and width of a few inputs that differ in kind.

    The grid of the positions; a batch that is not square and no multiple of the patches;
    a larger image.
    """
    backbone = graph.model.backbone
    patch = backbone.patch_size
    side = patch * backbone.grid_size[0]
    return [
        (1, side, side),
        (3, max(side // 2, 2 * patch) + patch // 2, side + patch + patch // 3),
        (1, side + 2 * patch, side + 2 * patch),
    ]


def largest_difference(
    graph: DeployedGraph,
    run: Callable[[Tensor], Sequence[Tensor]],
    sizes: Sequence[Tuple[int, int, int]] = (),
) -> float:
    """Compare an exported network with the segmentor on random images.

    Args:
        graph: What was exported.
        run: The exported network: images to the outputs of ``graph``.
        sizes: ``(B, H, W)`` of the inputs. Empty: :func:`check_sizes`.

    Returns:
        The largest absolute difference of all outputs.

    Raises:
        ValueError: If an output has another shape, or differs by more than
            :data:`TOLERANCE`.
    """
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch_size, height, width in sizes or check_sizes(graph):
        images = torch.randn(batch_size, 3, height, width, generator=generator)
        outputs = zip(graph.output_names, run(images), graph.expected(images))
        for name, value, expected in outputs:
            where = f'{name} of {batch_size} images of {height}x{width} pixels'
            if value.shape != expected.shape:
                raise ValueError(
                    f'the exported network gives {where} the shape {tuple(value.shape)}, '
                    f'the segmentor {tuple(expected.shape)}'
                )
            difference = (value - expected).abs().max().item()
            allowed = TOLERANCE * max(1.0, expected.abs().max().item())
            if not difference <= allowed:
                raise ValueError(
                    f'the exported network differs in {where} by {difference:.2g} from the '
                    f'segmentor, more than {allowed:.2g}: use another version of PyTorch '
                    'or of the runtime, or another format'
                )
            largest = max(largest, difference)
    return largest
