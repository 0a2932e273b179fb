"""A config for a user's own images: a few settings over a shipped one."""

from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config

from ...files import json_bytes, write_bytes
from ...image_files import find_images, without_suffix
from ...model_index import index_folder, shipped_models
from ..image_labels import name_few
from .split import Split, draw_split
from .survey import Survey


class Network(NamedTuple):
    """A shipped model that a config begins with."""

    model: str
    """Its name."""
    num_images: int
    """So many images its schedule is made for."""
    crops: Tuple[int, int]
    """Sides of the smallest and the largest crop that suits it, multiples of a patch."""
    min_iters: int
    """A training of fewer iterations teaches it nothing, however few the images are."""
    needs_start: bool
    """Whether the weights that it starts from have to be given."""


NETWORKS = {
    # 224 is the position grid of the published start, 448 the published crop
    'vit-b': Network('more_vit-b_voc', 10582, (224, 448), 1000, True),
    'vit-t': Network('more_vit-t_shapes', 1000, (96, 128), 300, False),
}
MAX_ITERS = 80000
"""Iterations of the longest published schedule, that of COCO."""


class OwnConfig(NamedTuple):
    """What the config of a folder of images says."""

    network: str
    """One of ``NETWORKS``."""
    base: str
    """Its config, as MMEngine finds it."""
    folder: str
    """Of the images, absolute."""
    classes: Tuple[str, ...]
    """The K classes."""
    labels: Dict[str, List[str]]
    """Class names by image ID."""
    split: Split
    """The images."""
    copies: List[str]
    """IDs of images that are of neither side: copies of those of ``split.val``, without a
    mask."""
    seed: int
    """That the split was drawn with."""
    mask_folder: Optional[str]
    """Of the masks of ``split.val``, absolute; None: there are none."""
    pretrained: Optional[str]
    """Weights that the network starts from; None: those of the base."""
    patch: int
    """Pixels of a side."""
    side: int
    """Of the median image, the shorter one, in pixels."""
    crop: int
    """Side of the crops in pixels."""
    max_iters: int
    """Of the training."""
    schedule: Dict[str, Any]
    """Iterations that move along with ``max_iters``: ``begin`` by loss, ``switch``,
    ``warmup``."""
    thresholds: Dict[str, float]
    """Of the training labels, as in the base."""
    base_schedule: Tuple[int, int]
    """Iterations of the base, and the number of images that they are made for."""


def plan_config(
    survey: Survey,
    network: str = 'vit-b',
    classes: Optional[Sequence[str]] = None,
    val_share: float = 0.2,
    seed: int = 0,
    mask_folder: Optional[str] = None,
    pretrained: Optional[str] = None,
) -> OwnConfig:
    """Decide what the config of a folder of images says.

    * The split is drawn with a seed, each class in proportion. With masks, images that have
      one are validated on, and their copies that have none are left out.
    * A crop is as large as the shorter side of the median image, within what suits the
      network.
    * The number of iterations follows the root of the number of images, and all that
      begins during the training follows the number of iterations.

    Args:
        survey: Of the images.
        network: One of ``NETWORKS``.
        classes: Their order. None: by name.
        val_share: Share of the images to validate on, in (0, 1).
        seed: Of the split.
        mask_folder: Of masks ``ID.png``. None: there are none.
        pretrained: File that the network starts from.

    Raises:
        FileNotFoundError: If a file or folder does not exist.
        ValueError: If the images cannot be trained on, or the classes are others.
    """
    labels = survey.usable()
    names = _check_classes(survey, classes)
    _check_files(survey)
    chosen = NETWORKS[network]
    base = Config.fromfile(shipped_models()[chosen.model])
    split, copies = _split(survey, labels, val_share, seed, mask_folder)
    if not split.train:
        raise ValueError(
            f'--val-share {val_share:g} leaves none of the {len(labels)} images to train '
            'on: give a smaller share'
        )
    max_iters = _max_iters(len(split.train), base.train_cfg.max_iters, chosen)
    if pretrained is not None and not Path(pretrained).is_file():
        raise FileNotFoundError(f'the weights {pretrained} do not exist; correct the path')
    side = int(median(min(image.size) for image in survey.images if image.size))
    patch = base.model.backbone.patch_size
    low, high = chosen.crops
    return OwnConfig(
        network=network,
        base=_base_name(chosen.model),
        folder=Path(survey.folder).resolve().as_posix(),
        classes=names,
        labels=labels,
        split=split,
        copies=copies,
        seed=seed,
        mask_folder=mask_folder and Path(mask_folder).resolve().as_posix(),
        pretrained=pretrained and Path(pretrained).resolve().as_posix(),
        patch=patch,
        side=side,
        crop=max(low, min(high, side // patch * patch)),
        max_iters=max_iters,
        schedule=_schedule(base, max_iters / base.train_cfg.max_iters),
        thresholds={
            name: value
            for name, value in base.model.pseudo_label.items()
            if isinstance(value, float)
        },
        base_schedule=(base.train_cfg.max_iters, chosen.num_images),
    )


def _base_name(model: str) -> str:
    """The config of a model by name, which suits any machine.

    By path in a checkout that is not installed.
    """
    path = shipped_models()[model]
    installed = index_folder().name == '.mim'
    return f'mmseg_more::more/{path.name}' if installed else path.as_posix()


def _check_classes(survey: Survey, classes: Optional[Sequence[str]]) -> Tuple[str, ...]:
    found = survey.classes()
    if not found:
        raise ValueError(
            'no image that can be read has a class: check_dataset says what is wrong'
        )
    if classes is None:
        return tuple(found)
    if set(classes) != set(found) or len(set(classes)) < len(classes):
        raise ValueError(
            f'--classes must name each class of the labels once: {name_few(found, 20)}; '
            f'got {name_few(classes, 20)}'
        )
    return tuple(classes)


def _check_files(survey: Survey) -> None:
    """Raise ValueError if an ID has two files, or one that no split file can name."""
    paths: Dict[str, str] = {}
    for image in survey.images:
        if image.image_id in paths:
            raise ValueError(
                f'{paths[image.image_id]} and {image.path} have one name, and their masks '
                'would as well: rename or move one of them'
            )
        paths[image.image_id] = image.path
    foreign = sorted(i for i in survey.labels.keys() & paths if not _is_unicode(i))
    if foreign:
        raise ValueError(
            f'the names of {len(foreign)} images are no text in UTF-8, as lists of images '
            f'are: rename {name_few(foreign)}'
        )


def _is_unicode(name: str) -> bool:
    """Whether a name has no surrogate, which Python has for a byte that is no UTF-8."""
    return not any('\ud800' <= letter <= '\udfff' for letter in name)


def _split(
    survey: Survey,
    labels: Dict[str, List[str]],
    val_share: float,
    seed: int,
    mask_folder: Optional[str],
) -> Tuple[Split, List[str]]:
    """The split, and the copies of images to validate on that are of neither side."""
    groups = defaultdict(list)
    for image in survey.images:
        groups[image.digest].append(image.image_id)
    if mask_folder is None:
        return draw_split(labels, val_share, seed, groups.values()), []
    if not Path(mask_folder).is_dir():
        raise FileNotFoundError(f'the folder of masks {mask_folder} does not exist')
    masks = find_images(mask_folder).images
    masked = {
        without_suffix(m) for m in masks if m.lower().endswith('.png')
    } & labels.keys()
    if not masked:
        raise ValueError(
            f'{mask_folder} has a mask (ID.png) of none of the images with labels; without '
            'masks leave the option out'
        )
    if len(masked) == len(labels) or len(masked) > val_share * len(labels):
        share = val_share * len(labels) / len(masked)
        with_mask = {image_id: labels[image_id] for image_id in sorted(masked)}
        val = draw_split(with_mask, share, seed, groups.values()).val
    else:
        val = sorted(masked)
    shown = {i for ids in groups.values() if not set(val).isdisjoint(ids) for i in ids}
    copies = sorted((shown & labels.keys()) - set(val))
    return Split(sorted(labels.keys() - {*val, *copies}), val), copies


def _max_iters(num_images: int, base_iters: int, network: Network) -> int:
    wanted = base_iters * (num_images / network.num_images) ** 0.5
    return int(min(max(round(wanted, -2), network.min_iters), MAX_ITERS))


def _schedule(base: Mapping[str, Any], factor: float) -> Dict[str, Any]:
    """The iterations of the base at which something begins, times a factor."""

    def scaled(iterations: int) -> int:
        return round(iterations * factor)

    return dict(
        begin={
            name: scaled(loss['begin'])
            for name, loss in base['model']['losses'].items()
            if loss.get('begin')
        },
        switch=scaled(base['model']['pseudo_label']['switch_iter']),
        warmup=scaled(base['param_scheduler'][0]['warmup_iters']),
    )


def write_config(config: OwnConfig, path: str) -> List[str]:
    """Write the config and, into a folder of its name, labels and split.

    Args:
        config: What it says.
        path: Of the config, ``NAME.py``.

    Returns:
        The files, the config last.
    """
    contents = [
        json_bytes(config.labels, indent=1) + b'\n',
        ('\n'.join(config.split.train) + '\n').encode(),
        ('\n'.join(config.split.val) + '\n').encode(),
        config_text(config, Path(path).stem).encode(),
    ]
    files = config_files(path)
    for file, content in zip(files, contents):
        write_bytes(file, content)
    return [str(file) for file in files]


def config_files(path: str) -> List[Path]:
    """The files of a config: labels, images to train on, images to validate on, itself."""
    folder = Path(path).with_suffix('')
    names = ('labels.json', 'train.txt', 'val.txt')
    return [*(folder / name for name in names), Path(path)]


def config_text(config: OwnConfig, lists: str) -> str:
    """The text of the config.

    Args:
        config: What it says.
        lists: Name of the folder of labels and split, beside the config.
    """
    return _TEMPLATE.format(
        base=config.base,
        classes=_tuple(('background', *config.classes)),
        folder=config.folder,
        lists=lists,
        num_train=len(config.split.train),
        num_val=len(config.split.val),
        seed=config.seed,
        masks=config.mask_folder,
        patch=config.patch,
        crop=config.crop,
        side=config.side,
        max_iters=config.max_iters,
        base_iters=config.base_schedule[0],
        base_images=config.base_schedule[1],
        pretrained=f'    pretrained={config.pretrained!r},\n' if config.pretrained else '',
        begins=''.join(
            f'        {name}=dict(begin={begin}),\n'
            for name, begin in config.schedule['begin'].items()
        ),
        switch=config.schedule['switch'],
        thresholds=''.join(
            f'        {name}={value:g},\n' for name, value in config.thresholds.items()
        ),
        warmup=config.schedule['warmup'],
        interval=max(config.max_iters // 10, 1),
        num_health=min(len(config.split.train), 64),
        views=_tuple([config.crop, _to_patches(config, 1.25), _to_patches(config, 1.5)]),
        load_mask="    dict(type='LoadMask'),\n" if config.mask_folder else '',
        load_masks="[dict(type='LoadMask')],\n            " if config.mask_folder else '',
        evaluation=_WITH_MASKS if config.mask_folder else _WITHOUT_MASKS,
        best='seg/mIoU' if config.mask_folder else 'health/score',
    )


def _tuple(values: Sequence[Any]) -> str:
    return f'({", ".join(map(repr, values))},)' if len(values) == 1 else repr(tuple(values))


def _to_patches(config: OwnConfig, ratio: float) -> int:
    return round(config.crop * ratio / config.patch) * config.patch


_WITHOUT_MASKS = """\
# There are no masks: image labels are scored, and maps judged by health/score.
val_evaluator = [
    dict(type='mmpretrain.MultiLabelMetric', thr=0.5),  # precision, recall, F1
    dict(type='mmpretrain.AveragePrecision'),  # mAP
]
"""
_WITH_MASKS = """\
val_evaluator = dict(_delete_=True, type='LocalizationMetric', bkg=0.5)
"""
_TEMPLATE = """\
# MoRe on images of one's own, made by make_config.
_base_ = {base!r}
classes = {classes}
image_folder = {folder!r}
# {num_train} images to train on, {num_val} to validate on, seed {seed}; beside this file,
# whose folder MMEngine puts in as it is, with quotes in its name
lists = r'''{{{{ fileDirname }}}}/''' + {lists!r}
mask_folder = {masks!r}
# The shorter side of the median image is {side}; a multiple of the patch, {patch}.
crop_size = ({crop}, {crop})
# {base_iters} for {base_images} images, by the root of the number. What begins during the
# training keeps its place in it: losses, switch_iter, warmup_iters.
max_iters = {max_iters}

model = dict(
    num_classes=len(classes) - 1,
{pretrained}    data_preprocessor=dict(size=crop_size),
    losses=dict(
{begins}    ),
    # thresholds of the training labels, those of the base
    pseudo_label=dict(
        switch_iter={switch},
{thresholds}    ),
)
train_pipeline = [
    dict(type='LoadAnyImage'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=crop_size,
        crop_ratio_range=(0.32, 1.0),
        interpolation='bicubic',
        backend='pillow',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        prob=0.5,
        transforms=[
            dict(
                type='PILColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
            )
        ],
    ),
    dict(type='PackImageLevelInputs'),
]
val_pipeline = [
    dict(type='LoadAnyImage'),
    dict(type='Resize', scale=crop_size, keep_ratio=False),
{load_mask}    dict(type='PackImageLevelInputs'),
]
test_pipeline = val_pipeline
tta_pipeline = [
    dict(type='LoadAnyImage'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(s, s), keep_ratio=False) for s in {views}],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            {load_masks}[dict(type='PackImageLevelInputs')],
        ],
    ),
]
_images = dict(
    _delete_=True,
    type='ImageLevelDataset',
    data_prefix=dict(img_path=image_folder, seg_map_path=mask_folder),
    label_file=lists + '/labels.json',
    metainfo=dict(classes=classes),
)
train_dataloader = dict(
    dataset=dict(_images, ann_file=lists + '/train.txt', pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(
        _images,
        ann_file=lists + '/val.txt',
        test_mode=True,
        with_masks=mask_folder is not None,
        pipeline=val_pipeline,
    )
)
test_dataloader = val_dataloader
{evaluation}test_evaluator = val_evaluator
param_scheduler = [
    dict(
        type='PolyWarmupLR',
        warmup_iters={warmup},
        warmup_ratio=1e-6,
        power=0.9,
        by_epoch=False,
    )
]
train_cfg = dict(max_iters=max_iters, val_interval={interval})
default_hooks = dict(
    checkpoint=dict(interval={interval}, save_best={best!r}),
    # judges the maps of some training images, without masks
    health=dict(type='HealthHook', num_images={num_health}),
)
"""
