"""One block of the vision transformer."""

from typing import Optional, Union

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention, QuickGELU, SwiGLUFFN
from torch import Tensor, nn

from .axial_rope import Rotation, rotate
from .blocked_attention import attend
from .lora import merged_weight, original_layer

_ACTIVATIONS = dict(GELU=nn.GELU, QuickGELU=QuickGELU)


class KeylessBias(nn.Linear):
    """Projection to queries, keys and values, of which keys have no bias.

    Names and shapes of the parameters are those of ``nn.Linear``: where the middle third of
    the bias is not 0, it is not used.

    Args:
        embed_dims: D.
    """

    bias_mask: Tensor

    def __init__(self, embed_dims: int) -> None:
        super().__init__(embed_dims, 3 * embed_dims)
        mask = torch.ones(3, embed_dims)
        mask[1] = 0
        self.register_buffer('bias_mask', mask.flatten(), persistent=False)

    def used_bias(self) -> Tensor:
        """Of queries, keys and values, ``(3 D,)``."""
        return self.bias * self.bias_mask

    def forward(self, x: Tensor) -> Tensor:
        """Project, ``(B, N, D)`` to ``(B, N, 3 D)``."""
        return F.linear(x, self.weight, self.used_bias())


class SplitAttention(MultiheadAttention):
    """mmpretrain's self-attention, whose backward pass writes its gradient once.

    Query, key and value are chunks of the projection: their gradients are put side by
    side. Indexing, as the parent does, gives three buffers of the size of all of them,
    filled with zeros and added.
    """

    def forward(self, x: Tensor, rotation: Optional[Rotation] = None) -> Tensor:
        """Attend, ``(B, N, D)`` to ``(B, N, D)``; queries and keys rotated if asked."""
        query, key, value = (
            self.split_heads(part) for part in self.qkv(x).chunk(3, dim=-1)
        )
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        x = attend(query, key, value)
        return self.out_drop(self.gamma1(self.proj(x.transpose(1, 2).flatten(2))))

    def split_heads(self, x: Tensor) -> Tensor:
        """``(B, N, D)`` to ``(B, heads, N, D / heads)``."""
        return x.unflatten(-1, (self.num_heads, self.head_dims)).transpose(1, 2)


class FeedForward(FFN):
    """mmcv's, without the decorator that torch.compile cannot look through."""

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        """Transform ``(B, N, D)`` and add it to ``identity``."""
        return identity + self.dropout_layer(self.gamma2(self.layers(x)))


class EncoderLayer(TransformerEncoderLayer):
    """Attention and feed-forward network, each after a norm and with a residual.

    Names of the parameters are those of mmpretrain's ``TransformerEncoderLayer``.

    Args:
        embed_dims: D.
        num_heads: Heads of the attention.
        feedforward_channels: Width of the hidden layer; of SwiGLU, after the gate.
        drop_path_rate: Probability that a sample skips a residual branch in training.
            Defaults to 0.
        ffn: 'mlp' or 'swiglu'. Defaults to 'mlp'.
        activation: Of the 'mlp', 'GELU' or 'QuickGELU'. Defaults to 'GELU'.
        norm_eps: Epsilon of both norms. Defaults to 1e-6.
        layer_scale: Start of the factors of both residual branches, one for each channel;
            0: none. Defaults to 0.
        key_bias: Whether keys have a bias. Defaults to True.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        drop_path_rate: float = 0.0,
        ffn: str = 'mlp',
        activation: str = 'GELU',
        norm_eps: float = 1e-6,
        layer_scale: float = 0.0,
        key_bias: bool = True,
    ) -> None:
        # not the parent's, which would build, and draw, another attention
        BaseModule.__init__(self)
        self.embed_dims = embed_dims
        self.hidden_channels = feedforward_channels * (2 if ffn == 'swiglu' else 1)
        drop_path = dict(type='DropPath', drop_prob=drop_path_rate)
        branch = dict(dropout_layer=drop_path, layer_scale_init_value=layer_scale)
        self.ln1 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.attn = SplitAttention(embed_dims, num_heads, **branch)
        if not key_bias:
            self.attn.qkv = KeylessBias(embed_dims)
        self.ln2 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.ffn: Union[FeedForward, SwiGLUFFN]
        if ffn == 'swiglu':
            self.ffn = SwiGLUFFN(embed_dims, feedforward_channels, **branch)
        else:
            act_cfg = dict(type=_ACTIVATIONS[activation])
            self.ffn = FeedForward(
                embed_dims, feedforward_channels, act_cfg=act_cfg, **branch
            )

    def init_weights(self) -> None:
        """Random start of the feed-forward network, as mmpretrain's.

        The two layers of an addition by LoRA, which have no bias, stay as they are.
        """
        BaseModule.init_weights(self)
        for layer in self.ffn.modules():
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                nn.init.xavier_uniform_(layer.weight)
                nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, x: Tensor, rotation: Optional[Rotation] = None) -> Tensor:
        """Transform tokens ``(B, N, D)``."""
        x = x + self.attn(self.ln1(x), rotation)
        return self.ffn(self.ln2(x), identity=x)

    def class_attention(
        self, x: Tensor, first: int, last: int, rotation: Optional[Rotation] = None
    ) -> Tensor:
        """Attention logits of some tokens to all that follow them.

        Summed over heads, ``q k^T`` is the product over all channels, and ``q k^T =
        (q W_k) x^T + q b_k``: no key has to be computed, unless keys are rotated. In
        float32, as the products are beyond the range of float16.

        Args:
            x: Tokens that go into the layer, ``(B, N, D)``.
            first: Index of the first token that attends.
            last: Index after the last of them; from here on tokens are attended to.
            rotation: Of all tokens; it must leave those that attend as they are.

        Returns:
            Before softmax and without the scale, ``(B, last - first, N - last)``.
        """
        qkv = original_layer(self.attn.qkv)
        bias = qkv.used_bias() if isinstance(qkv, KeylessBias) else qkv.bias
        weights = merged_weight(self.attn.qkv).float().chunk(3)
        biases = bias.float().chunk(3)
        x = self.ln1(x).float()
        with torch.autocast(x.device.type, enabled=False):
            query = F.linear(x[:, first:last], weights[0], biases[0])
            if rotation is not None:
                key = self.attn.split_heads(F.linear(x[:, last:], weights[1], biases[1]))
                key = rotate(key, Rotation(*(part[last:] for part in rotation)))
                return query @ key.transpose(1, 2).flatten(2).transpose(1, 2)
            logits = (query @ weights[1]) @ x[:, last:].transpose(1, 2)
            return logits + (query @ biases[1])[..., None]
