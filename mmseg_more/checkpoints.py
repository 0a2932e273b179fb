"""Conversion of foreign state dicts: official MoRe, timm ViT, mmpretrain ViT.

Pure functions on state dicts: nothing here reads files or edits its input. The command
lines over them are in tools/model_converters/.
"""

import re
from collections import OrderedDict
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

StateDict = Mapping[str, Tensor]

_VIT_RENAMES = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.(\d+)\.norm([12])\.', r'layers.\1.ln\2.'),
    (r'^blocks\.(\d+)\.mlp\.fc1\.', r'layers.\1.ffn.layers.0.0.'),
    (r'^blocks\.(\d+)\.mlp\.fc2\.', r'layers.\1.ffn.layers.1.'),
    (r'^blocks\.(\d+)\.', r'layers.\1.'),
    (r'^norm\.', 'ln1.'),
)
_OFFICIAL_RENAMES = (
    (r'^decoder\.conv6\.', 'decode_head.conv1.conv.'),
    (r'^decoder\.conv7\.', 'decode_head.conv2.conv.'),
    (r'^decoder\.conv8\.', 'decode_head.conv_seg.'),
    (r'^graph_layer\.', 'graph.'),
    (r'^(aux_classifier|classifier)\.', r'\1.'),
)
# Held by the official file, used by nothing.
_OFFICIAL_UNUSED = (
    ('encoder.head.', "the ViT's own head, which MoRe does not use"),
    ('graph_layer._fc1.', 'a linear layer that the graph does not use'),
)
_WRAPPERS = ('model_state_dict', 'state_dict', 'model')


class KeyRecord(NamedTuple):
    """What became of one key of a source."""

    source: str
    """Its name there, ``module.`` removed."""
    target: Optional[str]
    """Our name; None if it was left out."""
    shape: Tuple[int, ...]
    """Of the tensor in the source."""
    note: str = ''
    """Why it was left out, or what was done beyond renaming."""


class Conversion(NamedTuple):
    """A foreign state dict in our names."""

    state_dict: Dict[str, Tensor]
    """Our names to tensors."""
    records: List[KeyRecord]
    """A record of every key of the source, in its order."""

    @property
    def dropped(self) -> List[str]:
        """Keys of the source that have no place in ours."""
        return [r.source for r in self.records if r.target is None]


def _rename(key: str, rules: Sequence[Tuple[str, str]]) -> Optional[str]:
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return None


def unwrap_state_dict(checkpoint: Mapping) -> StateDict:
    """The state dict of a checkpoint, wrappers and ``module.`` removed.

    Args:
        checkpoint: A state dict, or a dict that holds one under
            ``model_state_dict``, ``state_dict`` or ``model``.

    Returns:
        Names to tensors.

    Raises:
        ValueError: If there are no tensors in it.
    """
    while isinstance(checkpoint, Mapping):
        inner = [k for k in _WRAPPERS if isinstance(checkpoint.get(k), Mapping)]
        if not inner:
            break
        checkpoint = checkpoint[inner[0]]
    if not isinstance(checkpoint, Mapping) or not any(
        isinstance(v, Tensor) for v in checkpoint.values()
    ):
        raise ValueError(
            'the checkpoint holds no state dict: expected a dict of tensors, '
            f'or one under {", ".join(map(repr, _WRAPPERS))}'
        )
    return OrderedDict(
        (key[7:] if key.startswith('module.') else key, value)
        for key, value in checkpoint.items()
        if isinstance(value, Tensor)
    )


def convert_official(state_dict: Mapping) -> Dict[str, Tensor]:
    """Convert a state dict of the official MoRe code.

    Loads into :class:`mmseg_more.models.MoRe` with ``strict=True``. Layers that
    the official file holds but never uses (``encoder.head.*``,
    ``graph_layer._fc1.*``) are left out. Any number of classes.

    Args:
        state_dict: Official names; ``module.`` prefixes and the
            ``{'model_state_dict': ...}`` wrapper are accepted.

    Returns:
        Our names to the same tensors.

    Raises:
        ValueError: If a key is not one of the official model's.
    """
    return official_conversion(state_dict).state_dict


def official_conversion(state_dict: Mapping) -> Conversion:
    """As :func:`convert_official`, with a record of every key."""
    converted: Dict[str, Tensor] = OrderedDict()
    records: List[KeyRecord] = []
    unknown: List[str] = []
    name: Optional[str]
    for key, value in unwrap_state_dict(state_dict).items():
        shape = tuple(value.shape)
        unused = [why for start, why in _OFFICIAL_UNUSED if key.startswith(start)]
        if unused:
            records.append(KeyRecord(key, None, shape, unused[0]))
            continue
        if key.startswith('encoder.'):
            name = key[len('encoder.') :]
            name = 'backbone.' + (_rename(name, _VIT_RENAMES) or name)
        else:
            name = _rename(key, _OFFICIAL_RENAMES)
        if name is None:
            unknown.append(key)
            continue
        converted[name] = value
        records.append(KeyRecord(key, name, shape))
    if unknown:
        raise ValueError(
            'not a state dict of the official MoRe code: it has no place for '
            f'{unknown[:5]}{" ..." if len(unknown) > 5 else ""}; expected keys '
            'under encoder., decoder., classifier., aux_classifier. and '
            'graph_layer.'
        )
    return Conversion(converted, records)


def convert_plain_vit(
    checkpoint: Mapping, target: StateDict, num_registers: int, grid_size: Tuple[int, int]
) -> Conversion:
    """Turn a plain ViT (timm or mmpretrain names) into a MoRe backbone.

    The one class token is repeated for all extra tokens, and so is its
    position, except that register positions are drawn from a truncated
    normal of std 1 (the default CPU generator). Patch positions are resized
    bicubically if the grid differs.

    Args:
        checkpoint: State dict or checkpoint of a ViT with one class token.
        target: ``state_dict()`` of the backbone to start.
        num_registers: R.
        grid_size: ``(h, w)`` of the backbone's position grid.

    Returns:
        Keys and shapes of ``target``, and a record of every key.

    Raises:
        ValueError: If it is no ViT with one class token, or a shape differs; names the
            key and both shapes.
    """
    source, records, prefix = unwrap_state_dict(checkpoint), [], ''
    if any(key.startswith('backbone.') for key in source):
        prefix = 'backbone.'  # a whole classifier of mmpretrain
        records = [
            KeyRecord(k, None, tuple(v.shape), 'outside of the backbone')
            for k, v in source.items()
            if not k.startswith(prefix)
        ]
        source = {k[len(prefix) :]: v for k, v in source.items() if k.startswith(prefix)}
    for key in ('cls_token', 'pos_embed'):
        if key not in source:
            raise ValueError(
                f"the pretrained checkpoint has no '{key}': expected a ViT in "
                "timm's or mmpretrain's names, got keys such as "
                f'{list(source)[:3]}'
            )
    if source['cls_token'].shape[1] != 1:
        raise ValueError(
            'a pretrained start needs a ViT with one class token, got '
            f'{source["cls_token"].shape[1]}; load a MoRe checkpoint with '
            '`load_from` instead of `init_cfg`'
        )

    converted: Dict[str, Tensor] = OrderedDict()
    extra = target['cls_token'].shape[1]
    for key, value in source.items():
        name = _rename(key, _VIT_RENAMES) or key
        shape, note = tuple(value.shape), ''
        if name not in target:
            records.append(
                KeyRecord(prefix + key, None, shape, 'the backbone has no such weight')
            )
            continue
        if name == 'cls_token':
            value = value.repeat(1, extra, 1)
            note = f'repeated for {extra} tokens'
        elif name == 'pos_embed':
            value = _expand_positions(value, extra, num_registers, grid_size)
            note = (
                f'class position repeated {extra - num_registers} times, '
                f'{num_registers} drawn for registers, grid of '
                f'{grid_size[0]}x{grid_size[1]}'
            )
        if value.shape != target[name].shape:
            raise ValueError(
                f"'{key}' of the pretrained checkpoint has shape "
                f"{tuple(value.shape)}, the backbone's '{name}' has "
                f'{tuple(target[name].shape)}: use the same arch and '
                'patch_size'
            )
        converted[name] = value
        records.append(KeyRecord(prefix + key, name, shape, note))
    return Conversion(converted, records)


def _expand_positions(
    positions: Tensor, extra: int, num_registers: int, grid_size: Tuple[int, int]
) -> Tensor:
    """Positions (1, 1+n, D) of a plain ViT -> (1, extra + h*w, D)."""
    side = round((positions.shape[1] - 1) ** 0.5)
    if side * side != positions.shape[1] - 1:
        raise ValueError(
            "'pos_embed' of the pretrained checkpoint has "
            f'{positions.shape[1]} positions: expected one class token and a '
            'square grid'
        )
    if (side, side) != tuple(grid_size):
        positions = resize_pos_embed(positions, (side, side), grid_size, 'bicubic', 1)
    registers = positions.new_empty(1, num_registers, positions.shape[2])
    torch.nn.init.trunc_normal_(registers)
    classes = positions[:, :1].repeat(1, extra - num_registers, 1)
    return torch.cat([registers, classes, positions[:, 1:]], dim=1)
