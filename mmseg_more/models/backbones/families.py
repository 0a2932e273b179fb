"""The pretrained vision transformers that MoReViT can be, and in what they differ."""

from typing import Any, Dict, NamedTuple, Optional

from mmpretrain.models.backbones.vision_transformer import VisionTransformer

Archs = Dict[str, Dict[str, Any]]


class Family(NamedTuple):
    """What all members of a family share, and their sizes."""

    archs: Archs
    """Names to ``embed_dims, num_layers, num_heads, feedforward_channels`` and, where it is
    not 'mlp', ``ffn``."""
    img_size: int = 224
    """Side of the images whose grid the positions of the published files describe."""
    patch_size: int = 16
    """Of the published files."""
    positions: str = 'all'
    """Which tokens have a trainable position: 'all', 'classes' (and patches, no registers),
    'patches' or 'none'."""
    interpolate: Optional[str] = None
    """How positions are resized unless a config says so; None without positions."""
    norm_eps: float = 1e-6
    """Epsilon of all norms."""
    layer_scale: float = 0.0
    """Start of the factors of the residual branches; 0: no such factors."""
    pre_norm: bool = False
    """Whether tokens are normed before the first block; patches then have no bias."""
    activation: str = 'GELU'
    """Of the feed-forward networks, but for SwiGLU's."""
    key_bias: bool = True
    """Whether keys have a bias, as queries and values have."""
    rope_base: Optional[float] = None
    """Ratio of the longest to the shortest period by which queries and keys of patches are
    rotated; None: they are not."""


def _arch(
    embed_dims: int, num_layers: int, num_heads: int, hidden: int, **ffn: str
) -> Dict[str, Any]:
    return dict(
        embed_dims=embed_dims,
        num_layers=num_layers,
        num_heads=num_heads,
        feedforward_channels=hidden,
        **ffn,
    )


_SMALL = _arch(384, 12, 6, 1536)
_BASE = _arch(768, 12, 12, 3072)
_LARGE = _arch(1024, 24, 16, 4096)

FAMILIES: Dict[str, Family] = dict(
    vit=Family(archs=VisionTransformer.arch_zoo, interpolate='offset'),
    deit3=Family(
        archs=dict(
            small=_SMALL,
            medium=_arch(512, 12, 8, 2048),
            base=_BASE,
            large=_LARGE,
            huge=_arch(1280, 32, 16, 5120),
        ),
        positions='patches',
        interpolate='size',
        layer_scale=1e-6,
    ),
    dinov2=Family(
        archs=dict(
            small=_SMALL,
            base=_BASE,
            large=_LARGE,
            giant=_arch(1536, 40, 24, 4096, ffn='swiglu'),
        ),
        img_size=518,
        patch_size=14,
        positions='classes',
        interpolate='offset',
        layer_scale=1e-5,
    ),
    dinov3=Family(
        archs={
            'small': _SMALL,
            'small-plus': _arch(384, 12, 6, 1536, ffn='swiglu'),
            'base': _BASE,
            'large': _LARGE,
            'huge-plus': _arch(1280, 32, 20, 5120, ffn='swiglu'),
            '7b': _arch(4096, 40, 32, 8192, ffn='swiglu'),
        },
        positions='none',
        norm_eps=1e-5,
        layer_scale=1e-5,
        key_bias=False,
        rope_base=100.0,
    ),
    clip=Family(
        archs=dict(base=_BASE, large=_LARGE),
        interpolate='size',
        norm_eps=1e-5,
        pre_norm=True,
        activation='QuickGELU',
    ),
)
"""Names of families, as in ``MoReViT(family=...)``."""
