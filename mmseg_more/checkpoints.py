"""Conversion of foreign state dicts: official MoRe, pretrained ViTs.

Pure functions on state dicts: nothing here reads files or edits its input. The command
lines over them are in tools/model_converters/.
"""

import math
from collections import OrderedDict
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from .vit_names import TIMM_RENAMES, family_of, rename_vit, renamed

StateDict = Mapping[str, Tensor]

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
            name = 'backbone.' + (renamed(name, TIMM_RENAMES) or name)
        else:
            name = renamed(key, _OFFICIAL_RENAMES)
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
    checkpoint: Mapping,
    target: StateDict,
    num_registers: int,
    grid_size: Tuple[int, int],
    family: str = 'vit',
) -> Conversion:
    """Turn a pretrained ViT into a MoRe backbone.

    Names are recognised: the authors' own, timm's, those of transformers and of OpenMMLab
    (:mod:`mmseg_more.vit_names`). The one class token is repeated for all classes, and so
    is its position. Registers of the file come first. Those it has not are, where registers
    have positions, class tokens whose positions are drawn from a truncated normal of std 1,
    else they are drawn from one of std 0.02 (the default CPU generator). Patch positions
    are resized bicubically if the grid differs.

    Args:
        checkpoint: State dict or checkpoint of a ViT with one class token.
        target: ``state_dict()`` of the backbone to start.
        num_registers: R.
        grid_size: ``(h, w)`` of the backbone's position grid.
        family: Of the backbone. Defaults to 'vit'.

    Returns:
        Keys and shapes of ``target``, and a record of every key.

    Raises:
        ValueError: If it is no ViT with one class token, is of another family, has more
            registers, or a shape differs; names the key and both shapes.
    """
    source, keys = rename_vit(unwrap_state_dict(checkpoint))
    _check_source(source, target, family)
    tokens = _start_tokens(source, target, num_registers, grid_size)
    converted: Dict[str, Tensor] = OrderedDict()
    records: List[KeyRecord] = []
    for key in keys:
        name, note = key.target, key.note
        if name == 'registers' and num_registers:
            name, note = 'cls_token', 'the first registers'
        elif name in tokens:
            note = tokens[name].note
        if name is None or name not in target:
            note = note or 'the backbone has no such weight'
            records.append(KeyRecord(key.source, None, key.shape, note))
            continue
        value = tokens[name].value if name in tokens else source[name]
        if value.shape != target[name].shape:
            raise ValueError(
                f"'{key.source}' of the pretrained checkpoint has shape "
                f"{tuple(value.shape)}, the backbone's '{name}' has "
                f'{tuple(target[name].shape)}: use the same arch and '
                'patch_size'
            )
        converted[name] = value
        records.append(KeyRecord(key.source, name, key.shape, note))
    for name in target:  # biases of 0 that the file does without
        if name not in converted and name in source:
            converted[name] = source[name]
    return Conversion(converted, records)


class _Start(NamedTuple):
    """A tensor of tokens or positions, and how it was made."""

    value: Tensor
    note: str


def _check_source(source: StateDict, target: StateDict, family: str) -> None:
    """Raise where a file cannot be the start of a backbone."""
    found = family_of(source)
    if found != family:
        raise ValueError(
            f"the pretrained checkpoint is a ViT of family '{found}', the backbone of "
            f"'{family}': use backbone.family='{found}'"
        )
    for key in ('cls_token', 'pos_embed'):
        if key in target and key not in source:
            raise ValueError(
                f"the pretrained checkpoint has no '{key}': expected a ViT with a class "
                f'token, got keys such as {list(source)[:3]}'
            )
    if source['cls_token'].shape[1] != 1:
        raise ValueError(
            'a pretrained start needs a ViT with one class token, got '
            f'{source["cls_token"].shape[1]}; load a MoRe checkpoint with '
            '`load_from` instead of `init_cfg`'
        )
    blocks = {name.split('.')[1] for name in target if name.startswith('layers.')}
    for name in source:
        part, *rest = name.split('.')
        if part == 'layers' and rest[0] in blocks and name not in target:
            raise ValueError(
                f"blocks of the pretrained checkpoint have weights '{name}', those of the "
                "backbone do not: use the file's arch, with ffn='swiglu' where it is gated"
            )


def _start_tokens(
    source: StateDict, target: StateDict, num_registers: int, grid_size: Tuple[int, int]
) -> Dict[str, _Start]:
    """Tokens ``(1, R+K, D)`` and, where the backbone has them, positions."""
    token, extra = source['cls_token'], target['cls_token'].shape[1]
    registers = source.get('registers', token[:, :0])
    of_file = registers.shape[1]
    if of_file > num_registers:
        raise ValueError(
            f'the pretrained checkpoint has {of_file} registers, the backbone '
            f'{num_registers}: use backbone.num_registers={of_file}'
        )
    positioned = 0
    if 'pos_embed' in target:
        positioned = target['pos_embed'].shape[1] - grid_size[0] * grid_size[1]
    added = token.repeat(1, num_registers - of_file, 1)
    if positioned < extra:
        torch.nn.init.trunc_normal_(added, std=0.02)
    classes = token.repeat(1, extra - num_registers, 1)
    note = f'repeated for {extra - of_file if positioned == extra else classes.shape[1]}'
    starts = dict(
        cls_token=_Start(torch.cat([registers, added, classes], dim=1), f'{note} tokens')
    )
    if 'pos_embed' in target:
        starts['pos_embed'] = _expand_positions(
            source['pos_embed'], positioned, classes.shape[1], of_file, grid_size
        )
    return starts


def _expand_positions(
    positions: Tensor,
    positioned: int,
    num_classes: int,
    of_file: int,
    grid_size: Tuple[int, int],
) -> _Start:
    """Positions ``(1, n, D)`` or ``(1, 1+n, D)`` of a ViT -> ``(1, P + h w, D)``.

    Args:
        positions: Of the file.
        positioned: P, extra tokens that have a position: 0, K or R+K.
        num_classes: K.
        of_file: Registers of the file, which have none.
        grid_size: ``(h, w)``.
    """
    count = positions.shape[1]
    side = math.isqrt(count)
    of_class = count - side * side
    if of_class > 1 or (positioned == 0 and of_class):
        raise ValueError(
            f"'pos_embed' of the pretrained checkpoint has {count} positions: expected a "
            f'square grid{" and one class token" if positioned else ""}'
        )
    if (side, side) != tuple(grid_size):
        positions = resize_pos_embed(
            positions, (side, side), grid_size, 'bicubic', of_class
        )
    note = f'grid of {grid_size[0]}x{grid_size[1]}'
    if not positioned:
        return _Start(positions, note)
    # a file without one has it in its token
    of_token = positions[:, :1] if of_class else torch.zeros_like(positions[:, :1])
    num_registers = positioned - num_classes
    registers = positions.new_zeros(1, num_registers, positions.shape[2])
    torch.nn.init.trunc_normal_(registers[:, of_file:])
    drawn = max(num_registers - of_file, 0)
    classes = of_token.repeat(1, num_classes, 1)
    return _Start(
        torch.cat([registers, classes, positions[:, of_class:]], dim=1),
        f'class position repeated {num_classes} times, {drawn} drawn for registers, {note}',
    )
