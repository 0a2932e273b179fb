"""Graph Category Representation (GCR), MoRe section 3.2."""

from typing import Optional, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmseg.registry import MODELS

from ..blocks import map_blocks, split_range

_RESIDUAL = 0.1  # share of the graph message; eq. 5 of the paper has none
# Neighbours that are gathered at once. On a CPU the next buffer finds them in the cache.
_BLOCK_BYTES = dict(cpu=2**22, cuda=2**29)


@MODELS.register_module()
class GraphCategoryRepresentation(BaseModule):
    """Let every class token gather from the tokens it is most related to.

    A directed graph from class tokens (heads) to candidates (tails); each
    head keeps its ``k`` best tails, which send it a weighted message.

    All neighbours together would be ``K k D`` numbers, some of them kept for the gradient.
    Where that is much, classes take turns, and gather theirs anew for the gradient: memory
    grows with K, not with its square.

    Differs from the paper (the reference code's behaviour is the default): the
    number of neighbours is a ratio of K and class tokens are candidates too
    (paper: 392 neighbours among patches, ``num_neighbors=392,
    tail='patches'``); the message weight is a product of two sums (eq. 4 is
    a dot product, ``weighting='dot'``); the update has a factor 0.1, a
    residual and a norm that eq. 5 does not show.

    Args:
        embed_dims: D, channels of the tokens.
        neighbor_ratio: ``k = int(neighbor_ratio * K)``. That is 0 for a single class:
            nobody sends it a message, as in the reference code. Defaults to 0.5.
        num_neighbors: ``k`` itself, overrides ``neighbor_ratio``; at most the
            number of candidates is used. Defaults to None.
        tail: Candidates, 'all' (class and patch tokens) or 'patches'.
            Defaults to 'all'.
        weighting: 'sum_product' for the code's weights or 'dot' for eq. 4.
            Defaults to 'sum_product'.
        init_cfg: Initialisation. Defaults to None.

    Raises:
        ValueError: For an unknown option or a non-positive count.
    """

    def __init__(
        self,
        embed_dims: int,
        neighbor_ratio: float = 0.5,
        num_neighbors: Optional[int] = None,
        tail: str = 'all',
        weighting: str = 'sum_product',
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        if tail not in ('all', 'patches'):
            raise ValueError(f"tail must be 'all' or 'patches', got '{tail}'")
        if weighting not in ('sum_product', 'dot'):
            raise ValueError(f"weighting must be 'sum_product' or 'dot', got '{weighting}'")
        if num_neighbors is not None and num_neighbors < 1:
            raise ValueError(f'num_neighbors must be >= 1, got {num_neighbors}')
        if neighbor_ratio <= 0:
            raise ValueError(f'neighbor_ratio must be > 0, got {neighbor_ratio}')
        self.embed_dims = embed_dims
        self.neighbor_ratio = neighbor_ratio
        self.num_neighbors = num_neighbors
        self.tail = tail
        self.weighting = weighting
        self.head_proj = nn.Linear(embed_dims, embed_dims)
        self.tail_proj = nn.Linear(embed_dims, embed_dims)
        self.linear1 = nn.Linear(embed_dims, embed_dims)
        self.linear2 = nn.Linear(embed_dims, embed_dims)
        self.norm = nn.LayerNorm(embed_dims)

    def _count(self, num_classes: int, num_candidates: int) -> Union[int, torch.SymInt]:
        count = self.num_neighbors or int(self.neighbor_ratio * num_classes)
        if isinstance(num_candidates, Tensor):  # sizes are, under torch.jit.trace
            return num_candidates.clamp(max=count)
        return torch.sym_min(count, num_candidates)

    def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """Update the class tokens.

        Args:
            tokens: Class tokens T, ``(B, K, D)``.
            patches: Patch tokens P, ``(B, N, D)``; detached here.

        Returns:
            Updated class tokens Q, ``(B, K, D)``.
        """
        patches = patches.detach()
        nodes = patches if self.tail == 'patches' else torch.cat([tokens, patches], dim=1)
        heads = self.head_proj(tokens)  # (B, K, D)
        tails = self.tail_proj(nodes)  # (B, M, D)

        scores = (heads * self.embed_dims**-0.5) @ tails.transpose(1, 2)
        count = self._count(tokens.shape[1], nodes.shape[1])
        scores, index = scores.topk(count, dim=-1)  # (B, K, k)
        messages = self._messages(heads, tails, scores, index)
        added = F.leaky_relu(self.linear1(_RESIDUAL * (heads + messages) + tokens))
        multiplied = F.leaky_relu(self.linear2(_RESIDUAL * heads * messages + tokens))
        return self.norm(added + multiplied)

    def _messages(
        self, heads: Tensor, tails: Tensor, scores: Tensor, index: Tensor
    ) -> Tensor:
        """What the neighbours send, ``a_i``, ``(B, K, D)``.

        Args:
            heads: ``(B, K, D)``.
            tails: ``(B, M, D)``.
            scores: Of the neighbours, ``(B, K, k)``.
            index: Which of the M tails they are, ``(B, K, k)``.
        """
        first = torch.arange(tails.shape[0], device=tails.device) * tails.shape[1]
        index = index + first[:, None, None]  # among the tails of all images
        tails = tails.flatten(0, 1)
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return self._messages_at_once(heads, tails, scores, index)
        bytes_of_class = 4 * scores[:, 0].numel() * self.embed_dims
        block_bytes = _BLOCK_BYTES.get(heads.device.type, 2**22)
        if heads.shape[1] * bytes_of_class <= block_bytes:
            return self._messages_at_once(heads, tails, scores, index)

        def of_classes(block: slice, heads: Tensor, *others: Tensor) -> Tensor:
            scores, index, tails = others
            return self._messages_at_once(heads, tails, scores, index)

        blocks = split_range(heads.shape[1], max(block_bytes // bytes_of_class, 1))
        return map_blocks(of_classes, blocks, (heads, scores, index), (tails,))

    def _messages_at_once(
        self, heads: Tensor, tails: Tensor, scores: Tensor, index: Tensor
    ) -> Tensor:
        """As :meth:`_messages` of some classes, with tails ``(B M, D)`` of all images."""
        neighbors = F.embedding(index, tails)  # (B, K, k, D)
        relation = scores.softmax(dim=-1)[..., None]  # (B, K, k, 1)
        edges = torch.lerp(heads[:, :, None], neighbors, relation)
        gate = torch.tanh(heads[:, :, None] + edges)
        if self.weighting == 'dot':
            weights = (neighbors * gate).sum(-1)
        else:
            weights = neighbors.sum(-1) * gate.sum(-1)
        # b batch, k class, j neighbour, d channel
        return torch.einsum('bkj,bkjd->bkd', weights.softmax(-1), neighbors)
