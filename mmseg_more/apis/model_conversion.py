"""Foreign checkpoint files: read safely, converted with a report of every key, written."""

import io
import os.path as osp
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from mmseg.registry import DATASETS, MODELS

from ..checkpoints import (
    Conversion,
    KeyRecord,
    StateDict,
    convert_plain_vit,
    official_conversion,
)
from ..datasets.image_level_dataset import voc_palette
from ..files import read_safetensors, reading_checkpoint, write_bytes
from ..models.backbones.lora import plain_names
from ..version import __version__

DATASET_TYPES = dict(voc='VOCImageLevelDataset', coco='COCO14ImageLevelDataset')
"""Data sets whose class names a converted checkpoint can carry."""

Shapes = Tuple[Tuple[int, ...], Tuple[int, ...]]


class ConversionReport(NamedTuple):
    """What became of every key, and what is wrong."""

    records: List[KeyRecord]
    """One for every key of the source, in its order."""
    missing: List[str]
    """Our names for which the source has nothing."""
    unexpected: List[str]
    """Names of the source that our model has no place for."""
    different: Dict[str, Shapes]
    """Our names whose shape does not fit: (shape found, shape needed)."""
    model: str
    """The model that the weights belong to, in words."""

    def problems(self) -> List[str]:
        """What keeps the weights from being loaded with ``strict=True``."""
        found = [f'{name} is missing' for name in self.missing]
        found += [f'{name} has no place in the model' for name in self.unexpected]
        found += [
            f'{name} is {theirs}, the model needs {ours}'
            for name, (theirs, ours) in self.different.items()
        ]
        return found

    def __str__(self) -> str:
        kept = [record for record in self.records if record.target is not None]
        dropped = [record for record in self.records if record.target is None]
        width = max((len(record.source) for record in self.records), default=0)
        lines = [f'{self.model}', f'converted: {len(kept)}']
        for record in kept:
            note = f'  ({record.note})' if record.note else ''
            lines.append(
                f'  {record.source:{width}} -> {record.target}  {record.shape}{note}'
            )
        lines.append(f'left out: {len(dropped)}')
        lines += [
            f'  {record.source:{width}}  {record.shape}  {record.note}'
            for record in dropped
        ]
        lines.append(f'missing: {len(self.missing)}')
        lines += [f'  {name}' for name in self.missing]
        return '\n'.join(lines)


def read_checkpoint(path: str) -> Any:
    """Read a checkpoint file of any origin: tensors and plain containers alone.

    Nothing in the file is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or holds other objects.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    if path.endswith('.safetensors'):
        return read_safetensors(path)
    with reading_checkpoint(path):
        return torch.load(path, map_location='cpu', weights_only=True)


def write_checkpoint(path: str, state_dict: StateDict, meta: Mapping[str, Any]) -> None:
    """Write a checkpoint as MMEngine's, whole or not at all.

    Args:
        path: File to write.
        state_dict: The weights.
        meta: What MMEngine keeps beside them; ``dataset_meta`` holds ``classes`` and
            ``palette``.

    Raises:
        OSError: If it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(
        dict(meta=dict(meta, mmseg_more_version=__version__), state_dict=dict(state_dict)),
        buffer,
    )
    write_bytes(path, buffer.getvalue())


def class_names(
    num_classes: int, dataset: Optional[str] = None, classes: Optional[Sequence[str]] = None
) -> Dict[str, list]:
    """Names and colours of the labels, background first.

    Args:
        num_classes: K.
        dataset: 'voc' or 'coco'; None for the one of them that has K classes.
        classes: Names of a data set of one's own instead, with or without 'background'
            in front.

    Returns:
        ``classes`` and ``palette`` of K+1 labels, as ``dataset_meta`` of a checkpoint.

    Raises:
        ValueError: If the names are not K.
    """
    if classes is not None:
        names = [name for i, name in enumerate(classes) if i or name != 'background']
        if len(names) != num_classes or len(set(names)) != num_classes:
            raise ValueError(
                f'the checkpoint has {num_classes} foreground classes, but '
                f'{len(set(names))} different names are given: {names}'
            )
        return dict(classes=['background', *names], palette=voc_palette(num_classes + 1))
    known = {name: DATASETS.get(kind).METAINFO for name, kind in DATASET_TYPES.items()}
    if dataset is None:
        fitting = [
            name for name, meta in known.items() if len(meta['classes']) == num_classes + 1
        ]
        if not fitting:
            raise ValueError(
                f'the checkpoint has {num_classes} foreground classes, neither the 20 of '
                'PASCAL VOC nor the 80 of COCO: give their names by --classes'
            )
        dataset = fitting[0]
    meta = known[dataset]
    if len(meta['classes']) != num_classes + 1:
        raise ValueError(
            f'the checkpoint has {num_classes} foreground classes, '
            f'{dataset} has {len(meta["classes"]) - 1}'
        )
    return dict(
        classes=list(meta['classes']), palette=[list(color) for color in meta['palette']]
    )


def official_model_config(weights: StateDict) -> dict:
    """Config of the model that converted official weights belong to.

    The shapes tell everything but the number of heads, which no shape depends on.

    Args:
        weights: In our names.

    Raises:
        ValueError: If a weight that the sizes are read from is missing, or if they
            contradict each other.
    """
    names = dict(
        classes='classifier.weight',
        tokens='backbone.cls_token',
        positions='backbone.pos_embed',
        patch='backbone.patch_embed.projection.weight',
        hidden='backbone.layers.0.ffn.layers.0.0.weight',
        head='decode_head.conv1.conv.weight',
    )
    missing = [name for name in names.values() if name not in weights]
    if missing:
        raise ValueError(
            'not a whole checkpoint of the official MoRe code: nothing in it '
            f'becomes {", ".join(missing)}'
        )
    shape = {key: weights[name].shape for key, name in names.items()}
    num_classes, dims = shape['classes'][:2]
    extra = shape['tokens'][1]
    patch, side = shape['patch'][-1], round((shape['positions'][1] - extra) ** 0.5)
    if extra < num_classes or side < 1:
        raise ValueError(
            f'{extra} tokens and {shape["positions"][1]} positions do not '
            f'fit {num_classes} classes'
        )
    depth = 1 + max(
        int(name.split('.')[2]) for name in weights if name.startswith('backbone.layers.')
    )
    return dict(
        type='MoRe',
        num_classes=num_classes,
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[1.0] * 3),
        backbone=dict(
            type='MoReViT',
            img_size=side * patch,
            patch_size=patch,
            num_classes=num_classes,
            num_registers=extra - num_classes,
            aux_layer=-min(3, depth),
            arch=dict(
                embed_dims=dims,
                num_layers=depth,
                num_heads=1,
                feedforward_channels=shape['hidden'][0],
            ),
        ),
        graph=dict(type='GraphCategoryRepresentation', embed_dims=dims),
        decode_head=dict(
            type='LargeFOVHead',
            in_channels=dims,
            channels=shape['head'][0],
            num_classes=num_classes + 1,
        ),
    )


def convert_official_checkpoint(checkpoint: Mapping) -> Tuple[Conversion, ConversionReport]:
    """Convert a checkpoint of the official code and hold it to a model of ours.

    Raises:
        ValueError: If it is none.
    """
    conversion = official_conversion(checkpoint)
    cfg = official_model_config(conversion.state_dict)
    with torch.device('meta'):  # shapes alone
        target = MODELS.build(cfg).state_dict()
    backbone = cfg['backbone']
    arch = backbone['arch']
    return conversion, _report(
        conversion,
        target,
        f'MoRe of {cfg["num_classes"]} classes: ViT of {arch["num_layers"]} blocks and '
        f'{arch["embed_dims"]} channels, patches of {backbone["patch_size"]}, positions '
        f'of {backbone["img_size"]} pixels, {backbone["num_registers"]} registers',
    )


def convert_vit_checkpoint(
    checkpoint: Mapping, model_cfg: Mapping
) -> Tuple[Conversion, ConversionReport]:
    """Turn a pretrained ViT into the start of a MoRe.

    The same as ``model.pretrained`` does when training starts. Positions of registers
    are drawn from the default CPU generator.

    Args:
        checkpoint: State dict or checkpoint of the ViT.
        model_cfg: Config of the MoRe.

    Returns:
        Weights under ``backbone.`` and the report.

    Raises:
        ValueError: If it is no such ViT, or of another size.
    """
    cfg = {**model_cfg['backbone'], 'init_cfg': None}
    if 'num_classes' in model_cfg:  # MoRe hands it on
        cfg.setdefault('num_classes', model_cfg['num_classes'])
    with torch.device('meta'):
        backbone = MODELS.build(cfg)
    target = plain_names(backbone.state_dict())
    found = convert_plain_vit(
        checkpoint, target, backbone.num_registers, backbone.grid_size, backbone.family
    )
    conversion = Conversion(
        _prefixed(found.state_dict),
        [
            record._replace(target=record.target and 'backbone.' + record.target)
            for record in found.records
        ],
    )
    return conversion, _report(
        conversion,
        _prefixed(target),
        f'start of a MoRe backbone with {backbone.num_registers} registers and '
        f'{backbone.num_classes} class tokens',
    )


def _prefixed(weights: StateDict) -> Dict[str, Tensor]:
    return {f'backbone.{name}': value for name, value in weights.items()}


def _report(conversion: Conversion, target: StateDict, model: str) -> ConversionReport:
    found = conversion.state_dict
    return ConversionReport(
        records=conversion.records,
        missing=[name for name in target if name not in found],
        unexpected=[name for name in found if name not in target],
        different={
            name: (tuple(value.shape), tuple(target[name].shape))
            for name, value in found.items()
            if name in target and value.shape != target[name].shape
        },
        model=model,
    )
