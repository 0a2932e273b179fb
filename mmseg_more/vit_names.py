"""What the weights of pretrained vision transformers are called, by where they are from."""

import math
import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

# Parts of our tensors, in their order, that other code keeps as tensors of their own
_PARTS = {'attn.qkv': ('query', 'key', 'value'), 'ffn.w12': ('gate', 'up')}
# Held by files, and needed by no pass over whole images
_UNUSED = (
    (r'(^|\.)mask_token$', 'for masked patches of the pretraining'),
    (r'bias_mask$', 'says that keys have no bias, which is so in the family'),
    (r'(rope_embed\.periods|inv_freq)$', 'computed by the backbone'),
    (r'position_ids$', 'counts positions'),
)


class Scheme(NamedTuple):
    """Names of one origin."""

    origin: str
    """In words."""
    mark: str
    """Pattern of a name that such a file has; what comes before group ``mark`` is the
    prefix of all weights of the ViT."""
    renames: Tuple[Tuple[str, str], ...]
    """Patterns and what becomes of them in our names; the first that fits."""


_TIMM_BLOCK = r'^blocks\.(\d+)\.'
_HF_BLOCK = r'^(?:encoder\.|model\.)?layers?\.(\d+)\.'
_OPENAI_BLOCK = r'^transformer\.resblocks\.(\d+)\.'

TIMM_RENAMES = (
    (r'^(?:register_tokens|storage_tokens|reg_token)$', 'registers'),
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^norm_pre\.', 'pre_norm.'),
    (r'^(?:norm|fc_norm)\.', 'ln1.'),
    (_TIMM_BLOCK + r'norm([12])\.', r'layers.\1.ln\2.'),
    (_TIMM_BLOCK + r'(?:ls1\.gamma|gamma_1)$', r'layers.\1.attn.gamma1.weight'),
    (_TIMM_BLOCK + r'(?:ls2\.gamma|gamma_2)$', r'layers.\1.ffn.gamma2.weight'),
    (_TIMM_BLOCK + r'attn\.q_bias$', r'layers.\1.attn.qkv.query.bias'),
    (_TIMM_BLOCK + r'attn\.v_bias$', r'layers.\1.attn.qkv.value.bias'),
    (_TIMM_BLOCK + r'mlp\.w12\.', r'layers.\1.ffn.w12.'),
    (_TIMM_BLOCK + r'mlp\.(?:w1|fc1_g)\.', r'layers.\1.ffn.w12.gate.'),
    (_TIMM_BLOCK + r'mlp\.(?:w2|fc1_x)\.', r'layers.\1.ffn.w12.up.'),
    (_TIMM_BLOCK + r'mlp\.w3\.', r'layers.\1.ffn.w3.'),
    (_TIMM_BLOCK + r'mlp\.fc1\.', r'layers.\1.ffn.layers.0.0.'),
    (_TIMM_BLOCK + r'mlp\.fc2\.', r'layers.\1.ffn.layers.1.'),
    (_TIMM_BLOCK, r'layers.\1.'),
)
"""Those of timm, which the authors of most ViTs, and of MoRe, have taken over."""
SCHEMES: Tuple[Scheme, ...] = (
    Scheme(
        'transformers',
        r'(?P<mark>embeddings\.(cls_token|class_embedding))$',
        (
            (r'^embeddings\.(?:cls_token|class_embedding)$', 'cls_token'),
            (r'^embeddings\.register_tokens$', 'registers'),
            (
                r'^embeddings\.(?:position_embeddings|position_embedding\.weight)$',
                'pos_embed',
            ),
            (
                r'^embeddings\.patch_embeddings?\.(?:projection\.)?',
                'patch_embed.projection.',
            ),
            (r'^pre_layrnorm\.', 'pre_norm.'),
            (r'^(?:layernorm|norm|post_layernorm)\.', 'ln1.'),
            (_HF_BLOCK + r'(?:norm1|layernorm_before|layer_norm1)\.', r'layers.\1.ln1.'),
            (_HF_BLOCK + r'(?:norm2|layernorm_after|layer_norm2)\.', r'layers.\1.ln2.'),
            *(
                (
                    _HF_BLOCK
                    + r'(?:self_attn|attention)\.(?:attention\.)?'
                    + f'(?:{part}|{part[0]}_proj)'
                    + r'\.',
                    rf'layers.\1.attn.qkv.{part}.',
                )
                for part in ('query', 'key', 'value')
            ),
            (
                _HF_BLOCK + r'(?:self_attn|attention)\.(?:output\.dense|o_proj|out_proj)\.',
                r'layers.\1.attn.proj.',
            ),
            (_HF_BLOCK + r'layer_scale1\.lambda1$', r'layers.\1.attn.gamma1.weight'),
            (_HF_BLOCK + r'layer_scale2\.lambda1$', r'layers.\1.ffn.gamma2.weight'),
            (_HF_BLOCK + r'mlp\.weights_in\.', r'layers.\1.ffn.w12.'),
            (_HF_BLOCK + r'mlp\.weights_out\.', r'layers.\1.ffn.w3.'),
            (_HF_BLOCK + r'mlp\.gate_proj\.', r'layers.\1.ffn.w12.gate.'),
            (
                _HF_BLOCK + r'(?:mlp\.fc1|mlp\.up_proj|intermediate\.dense)\.',
                r'layers.\1.ffn.layers.0.0.',
            ),
            (
                _HF_BLOCK + r'(?:mlp\.fc2|mlp\.down_proj|output\.dense)\.',
                r'layers.\1.ffn.layers.1.',
            ),
        ),
    ),
    Scheme(
        'CLIP (OpenAI, OpenCLIP)',
        r'(?P<mark>class_embedding)$',
        (
            (r'^class_embedding$', 'cls_token'),
            (r'^positional_embedding$', 'pos_embed'),
            (r'^conv1\.', 'patch_embed.projection.'),
            (r'^ln_pre\.', 'pre_norm.'),
            (r'^ln_post\.', 'ln1.'),
            (_OPENAI_BLOCK + r'ln_([12])\.', r'layers.\1.ln\2.'),
            (_OPENAI_BLOCK + r'attn\.in_proj_', r'layers.\1.attn.qkv.'),
            (_OPENAI_BLOCK + r'attn\.out_proj\.', r'layers.\1.attn.proj.'),
            (_OPENAI_BLOCK + r'mlp\.c_fc\.', r'layers.\1.ffn.layers.0.0.'),
            (_OPENAI_BLOCK + r'mlp\.c_proj\.', r'layers.\1.ffn.layers.1.'),
        ),
    ),
    Scheme("timm, or the authors'", r'(?P<mark>patch_embed\.proj\.weight)$', TIMM_RENAMES),
    Scheme('OpenMMLab', r'(?P<mark>patch_embed\.projection\.weight)$', ()),
)


class RenamedKey(NamedTuple):
    """What became of one key of a file."""

    source: str
    """Its name there."""
    target: Optional[str]
    """Our name; None if it belongs to no ViT, or is not used."""
    shape: Tuple[int, ...]
    """Of the tensor in the file."""
    note: str = ''
    """Why it is left out, or which part of ours it is."""


class RenamedViT(NamedTuple):
    """The weights of a ViT file in our names."""

    weights: Dict[str, Tensor]
    """Our names to tensors; also of what the backbone may have no place for. Registers are
    under 'registers'; ``cls_token`` is ``(1, 1, D)``, ``pos_embed`` ``(1, P, D)``."""
    keys: List[RenamedKey]
    """One for every key of the file, in its order."""


def rename_vit(state_dict: Mapping[str, Tensor]) -> RenamedViT:
    """Recognise where a ViT is from, and call its weights as here.

    Args:
        state_dict: Of the file, wrappers removed.

    Raises:
        ValueError: If no name is one of a known origin.
    """
    scheme, prefix = _recognize(state_dict)
    names = {
        key: renamed(key[len(prefix) :], scheme.renames) or key[len(prefix) :]
        for key in state_dict
        if key.startswith(prefix)
    }
    names = _gated(names, state_dict)
    found: Dict[str, Tensor] = {}
    keys: List[RenamedKey] = []
    for key, value in state_dict.items():
        target = names.get(key)
        note = '' if key in names else 'outside of the backbone'
        unused = [why for pattern, why in _UNUSED if re.search(pattern, key)]
        if unused and key in names:
            target, note = None, unused[0]
        if target is not None:
            found[target] = value
            target, note = _whole_name(target)
        keys.append(RenamedKey(key, target, tuple(value.shape), note))
    return RenamedViT(_merged(found), keys)


def family_of(weights: Mapping[str, Tensor]) -> str:
    """The family that the weights of a file can belong to, by what there is.

    Args:
        weights: In our names, see :class:`RenamedViT`.

    Returns:
        A name of :data:`~mmseg_more.models.backbones.families.FAMILIES`.
    """
    if 'pre_norm.weight' in weights:
        return 'clip'
    if 'layers.0.attn.gamma1.weight' not in weights:
        return 'vit'
    if 'pos_embed' not in weights:
        return 'dinov3'
    of_patches_alone = (
        math.isqrt(weights['pos_embed'].shape[1]) ** 2 == (weights['pos_embed'].shape[1])
    )
    return 'deit3' if of_patches_alone and 'registers' not in weights else 'dinov2'


def _recognize(state_dict: Mapping[str, Tensor]) -> Tuple[Scheme, str]:
    """The origin, and what all names of the ViT begin with."""
    for scheme in SCHEMES:
        for key in state_dict:
            match = re.search(scheme.mark, key)
            if match:
                return scheme, key[: match.start('mark')]
    origins = ', '.join(scheme.origin for scheme in SCHEMES)
    raise ValueError(
        f'the pretrained checkpoint is no ViT in the names of {origins}: it has keys such '
        f'as {list(state_dict)[:3]}'
    )


def renamed(name: str, rules: Sequence[Tuple[str, str]]) -> Optional[str]:
    """A name by the first pattern that fits; None if none does."""
    for pattern, replacement in rules:
        new, count = re.subn(pattern, replacement, name)
        if count:
            return new
    return None


def _gated(names: Dict[str, str], state_dict: Mapping[str, Tensor]) -> Dict[str, str]:
    """The same, with the names of SwiGLU for the layers that are one.

    Some origins call its layers as those of an MLP: with a gate beside them, or with a
    first layer of twice the width that the second one takes.
    """
    shapes = {name: state_dict[key].shape for key, name in names.items()}
    first, second = 'layers.0.ffn.layers.0.0.', 'layers.0.ffn.layers.1.'
    with_gate = 'layers.0.ffn.w12.gate.weight' in shapes
    packed = first + 'weight' in shapes and second + 'weight' in shapes
    packed = packed and shapes[first + 'weight'][0] == 2 * shapes[second + 'weight'][1]
    if not with_gate and not packed:
        return names
    hidden = 'ffn.w12.up.' if with_gate else 'ffn.w12.'
    return {
        key: name.replace('ffn.layers.0.0.', hidden).replace('ffn.layers.1.', 'ffn.w3.')
        for key, name in names.items()
    }


def _whole_name(name: str) -> Tuple[str, str]:
    """Our tensor, and what of it a tensor of the file is."""
    for whole, parts in _PARTS.items():
        for part in parts:
            if f'.{whole}.{part}.' in name:
                return name.replace(f'{whole}.{part}.', f'{whole}.'), f'rows of {part}'
    return name, ''


def _merged(found: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Our tensors: parts put together, shapes of tokens and positions as here."""
    merged: Dict[str, Tensor] = {}
    for name, value in found.items():
        whole, part = _whole_name(name)
        if whole in merged:
            continue
        if part:
            value = _put_together(whole, value, found)
        elif name == 'cls_token':
            value = value.reshape(1, -1, value.shape[-1])
        elif name == 'pos_embed':
            value = value.reshape(1, *value.shape[-2:])
        merged[whole] = value
    for name in [name for name in merged if name.endswith('attn.qkv.weight')]:
        # a projection without a bias is one whose bias is 0
        rows = merged[name][:, 0]
        merged.setdefault(name.replace('weight', 'bias'), torch.zeros_like(rows))
    return merged


def _put_together(whole: str, one: Tensor, found: Mapping[str, Tensor]) -> Tensor:
    start, kind = whole.rsplit('.', 1)
    (parts,) = (parts for name, parts in _PARTS.items() if start.endswith(name))
    # keys alone have no bias in some
    return torch.cat(
        [found.get(f'{start}.{part}.{kind}', torch.zeros_like(one)) for part in parts]
    )
