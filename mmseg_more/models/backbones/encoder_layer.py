"""One block of the vision transformer."""

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn


class SplitAttention(MultiheadAttention):
    """mmpretrain's self-attention, whose backward pass writes its gradient once.

    Query, key and value are chunks of the projection: their gradients are put side by
    side. Indexing, as the parent does, gives three buffers of the size of all of them,
    filled with zeros and added.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Attend, ``(B, N, D)`` to ``(B, N, D)``."""
        heads = self.num_heads, self.head_dims
        query, key, value = (
            part.unflatten(-1, heads).transpose(1, 2)  # (B, heads, N, D / heads)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        x = F.scaled_dot_product_attention(query, key, value)
        return self.out_drop(self.proj(x.transpose(1, 2).flatten(2)))


class EncoderLayer(TransformerEncoderLayer):
    """Attention and feed-forward network, each after a norm and with a residual.

    Names of the parameters are those of mmpretrain's ``TransformerEncoderLayer``.

    Args:
        embed_dims: D.
        num_heads: Heads of the attention.
        feedforward_channels: Width of the hidden layer.
        drop_path_rate: Probability that a sample skips a residual branch in training.
            Defaults to 0.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        drop_path_rate: float = 0.0,
    ) -> None:
        # not the parent's, which would build, and draw, another attention
        BaseModule.__init__(self)
        self.embed_dims = embed_dims
        self.feedforward_channels = feedforward_channels
        drop_path = dict(type='DropPath', drop_prob=drop_path_rate)
        self.ln1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = SplitAttention(embed_dims, num_heads, dropout_layer=drop_path)
        self.ln2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.ffn = FFN(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            dropout_layer=drop_path,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens ``(B, N, D)``."""
        x = x + self.attn(self.ln1(x))
        # not FFN.forward: torch.compile cannot look through its decorator
        return x + self.ffn.dropout_layer(self.ffn.layers(self.ln2(x)))

    def class_attention(self, x: Tensor, first: int, last: int) -> Tensor:
        """Attention logits of some tokens to all that follow them.

        Summed over heads, ``q k^T`` is the product over all channels, and ``q k^T =
        (q W_k) x^T + q b_k``: no key has to be computed. In float32, as the products
        are beyond the range of float16.

        Args:
            x: Tokens that go into the layer, ``(B, N, D)``.
            first: Index of the first token that attends.
            last: Index after the last of them; from here on tokens are attended to.

        Returns:
            Before softmax and without the scale, ``(B, last - first, N - last)``.
        """
        weights = self.attn.qkv.weight.float().chunk(3)
        biases = self.attn.qkv.bias.float().chunk(3)
        x = self.ln1(x).float()
        with torch.autocast(x.device.type, enabled=False):
            query = F.linear(x[:, first:last], weights[0], biases[0])
            logits = (query @ weights[1]) @ x[:, last:].transpose(1, 2)
            return logits + (query @ biases[1])[..., None]
