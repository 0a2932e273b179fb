"""Names and colours of the classes, from wherever they are known."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from mmseg.registry import DATASETS

from ..datasets.image_level_dataset import voc_palette


def resolve_dataset_meta(
    num_classes: int,
    cfg: Mapping[str, Any],
    checkpoint: Optional[Mapping[str, Any]] = None,
    classes: Optional[Sequence[str]] = None,
    palette: Optional[Sequence[Sequence[int]]] = None,
) -> Dict[str, List]:
    """What the labels of a model are called, and their colours.

    In this order: as given, from the checkpoint's meta, from the test data set of the
    config. Names without colours get those of PASCAL VOC.

    Args:
        num_classes: K of the model.
        cfg: Its config.
        checkpoint: Its checkpoint, if there is one.
        classes: ``K + 1`` names, background first.
        palette: ``K + 1`` RGB colours.

    Returns:
        ``classes`` and ``palette``, of ``K + 1`` labels each.

    Raises:
        ValueError: If no source has them, or if they are not ``K + 1``.
    """
    found = dict(classes=classes, palette=palette)
    sources = dict(
        arguments=lambda: found,
        checkpoint=lambda: _of_checkpoint(checkpoint or {}),
        config=lambda: _of_config(cfg),
    )
    for where, source in sources.items():
        meta = source()
        if meta.get('classes'):
            origin = where
            break
    else:
        raise ValueError(
            'what the classes are called is neither in the checkpoint (meta.dataset_meta) '
            'nor known to the data set of the config: give `classes` (background first)'
        )
    names, colors = list(meta['classes']), meta.get('palette')
    if palette is not None:
        colors = palette
    elif not colors:
        colors = voc_palette(len(names))
    for what, values in (('classes', names), ('palette', colors)):
        if len(values) != num_classes + 1:
            raise ValueError(
                f'{what} of the {origin} has {len(values)} entries, the model needs '
                f'{num_classes + 1}: background and {num_classes} classes'
            )
    return dict(classes=names, palette=[[int(v) for v in color] for color in colors])


def _of_checkpoint(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = checkpoint.get('meta') or {}
    return meta.get('dataset_meta') or {
        key.lower(): meta[key] for key in ('CLASSES', 'PALETTE') if key in meta
    }


def _of_config(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the test data set, of which no file is opened."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while isinstance(dataset, Mapping) and 'dataset' in dataset:  # a wrapper
        dataset = dataset['dataset']
    if not isinstance(dataset, Mapping):
        return {}
    return DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []}).metainfo
