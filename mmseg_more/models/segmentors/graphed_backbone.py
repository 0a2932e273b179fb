"""Passes without a gradient as CUDA graphs."""

import copy
from typing import Dict, Hashable, NamedTuple

import torch
from torch import Tensor, nn

from ..structures import Tokens

_WARM_UP = 3  # passes before a capture, as PyTorch advises


class _Graph(NamedTuple):
    """A captured pass: it reads ``images`` and writes ``tokens``."""

    graph: 'torch.cuda.CUDAGraph'
    images: Tensor
    tokens: Tokens


class GraphedBackbone:
    """Runs a backbone by replaying CUDA graphs, one for each shape of images.

    The host launches a pass by one call and not each of its kernels, which pays where it
    cannot keep up with the GPU: small batches, small images. A graph reads the weights
    where they are, so it sees what an optimizer changes in place; weights that were moved
    are captured anew.

    **The tokens of a pass are overwritten by the next pass over images of that shape.**
    What lies between is in one pool of memory for all graphs.

    Args:
        backbone: :class:`MoReViT` on a GPU.
        max_graphs: Shapes that are captured. Each costs a few warm-up passes and some
            memory; those beyond run as ever. Defaults to 16.
    """

    def __init__(self, backbone: nn.Module, max_graphs: int = 16) -> None:
        self.backbone, self.max_graphs = backbone, max_graphs
        self._graphs: Dict[Hashable, _Graph] = {}

    def __call__(self, images: Tensor) -> Tokens:
        """Tokens of normalised images ``(B, 3, H, W)``, until the next call with such."""
        key = self._key(images)
        if key not in self._graphs:
            if len(self._graphs) >= self.max_graphs:
                return self.backbone(images)
            self._graphs[key] = self._capture(images)
        found = self._graphs[key]
        found.images.copy_(images)
        found.graph.replay()
        return found.tokens

    def __deepcopy__(self, memo: dict) -> 'GraphedBackbone':
        """Of the copied backbone, without graphs: those read the weights of this one."""
        return GraphedBackbone(copy.deepcopy(self.backbone, memo), self.max_graphs)

    def _key(self, images: Tensor) -> Hashable:
        """What a captured pass depends on."""
        autocast = torch.is_autocast_enabled('cuda') and torch.get_autocast_dtype('cuda')
        weights = tuple(weight.data_ptr() for weight in self.backbone.parameters())
        return images.shape, images.dtype, autocast, self.backbone.training, weights

    def _capture(self, images: Tensor) -> _Graph:
        images = images.clone()
        # copies of the weights in half precision are part of the pass: kept ones would
        # be those of this moment
        with torch.autocast(
            'cuda',
            dtype=torch.get_autocast_dtype('cuda'),
            enabled=torch.is_autocast_enabled('cuda'),
            cache_enabled=False,
        ):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    self.backbone(images)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            pool = next((g.graph.pool() for g in self._graphs.values()), None)
            # thread_local: the loader's thread may pin memory meanwhile
            with torch.cuda.graph(graph, pool=pool, capture_error_mode='thread_local'):
                tokens = self.backbone(images)
        return _Graph(graph, images, tokens)
