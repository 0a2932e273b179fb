"""Turns a config into one that makes masks."""

import copy
from typing import Any, Mapping, Optional, Union

from mmengine.config import Config, ConfigDict

from mmseg.registry import DATASETS, HOOKS

from ..datasets import COCO14ImageLevelDataset, ImageLevelDataset, VOCImageLevelDataset
from ..engine.evaluators import evaluator_list
from ..engine.hooks.utils import add_hook, remove_hooks
from ..engine.type_name import type_name
from .calibration import as_calibration
from .identity import without_annotations

SPLITS = ('train', 'val', 'test')
MASK_HOOKS = ('PseudoLabelHook', 'VOCExportHook')


def use_pseudo_labels(
    cfg: Config, folder: str, split: str = 'test', **options: Any
) -> None:
    """Have ``Runner.test`` write masks into ``folder`` instead of evaluating.

    No mask of the truth is needed or opened. The images are those of a split, as the test
    pipeline sees them, one at a time and in order.

    Args:
        cfg: Complete config; changed. (With ``launch.use_tta``, call that first.)
        folder: As ``out_dir`` of :class:`PseudoLabelHook`.
        split: 'train', 'val' or 'test': whose data.
        options: Other arguments of :class:`PseudoLabelHook`. Where no threshold is given
            (by ``bkg``, ``class_bkg`` or a ``calibration``), it is that of the test
            evaluator for the source, if it has any.

    Raises:
        FileNotFoundError: If there is no such file of thresholds.
        ValueError: If an argument is wrong, or the config lacks the data.
    """
    if not gives_thresholds(options):
        options['bkg'] = evaluated_bkg(cfg, options.get('source') or 'lam')
    hook = dict(options, type='PseudoLabelHook', out_dir=folder)
    with_labels = options.get('policy') in (None, 'image-labels')
    prepare_mask_run(cfg, split, hook, with_labels)


def gives_thresholds(options: Mapping[str, Any]) -> bool:
    """Whether options of :class:`MaskRecipe` hold thresholds of maps.

    Raises:
        FileNotFoundError, ValueError: As :meth:`Calibration.load`.
    """
    if any(options.get(name) is not None for name in ('bkg', 'class_bkg')):
        return True
    calibration = options.get('calibration')
    return calibration is not None and bool(as_calibration(calibration).thresholds)


def prepare_mask_run(cfg: Config, split: str, hook: dict, with_labels: bool) -> None:
    """Give ``cfg`` the hook, its loop and its data, and take away what would hinder it."""
    HOOKS.build(hook)  # what is wrong with the arguments is said now
    cfg.test_dataloader = mask_dataloader(cfg, split, with_labels)
    cfg.test_evaluator = []
    cfg.test_cfg = dict(
        type='MaskLoop', fp16=(cfg.get('test_cfg') or {}).get('fp16', False)
    )
    remove_hooks(cfg, 'LocalizationHook', *MASK_HOOKS)
    add_hook(cfg, hook)


def mask_dataloader(cfg: Mapping[str, Any], split: str, with_labels: bool) -> ConfigDict:
    """The data loader of a split, with the pipeline of the test.

    Args:
        cfg: Complete config.
        split: 'train', 'val' or 'test'.
        with_labels: Whether image labels are needed. Otherwise our data sets need
            not have any (unless labels decide on which images belong to them).

    Raises:
        ValueError: If there is no such split, or it has no data of its own.
    """
    if split not in SPLITS:
        raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
    test, data = cfg.get('test_dataloader'), cfg.get(f'{split}_dataloader')
    if data is None or test is None:
        raise ValueError(
            f'masks of the {split} split need `test_dataloader` (for '
            f'its pipeline) and `{split}_dataloader` in the config'
        )
    dataset = copy.deepcopy(data['dataset'])
    while type_name(dataset) == 'RepeatDataset':
        dataset = dataset['dataset']
    if 'pipeline' not in test['dataset'] or type_name(dataset) == 'ConcatDataset':
        raise ValueError(
            f'the {split} split is a {type_name(dataset)}: name one plain data '
            f'set in `{split}_dataloader.dataset`, with the pipeline in '
            '`test_dataloader.dataset.pipeline`'
        )
    dataset['pipeline'] = without_annotations(copy.deepcopy(test['dataset']['pipeline']))
    dataset['test_mode'] = True
    kind = dataset['type']
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if isinstance(kind, type) and issubclass(kind, ImageLevelDataset):
        dataset['with_masks'] = False
        selects = dataset.get('skip_unlabeled', issubclass(kind, COCO14ImageLevelDataset))
        if not with_labels and not selects:
            dataset['label_file'] = ''
            prefix = dataset.get('data_prefix') or {}
            if prefix or issubclass(kind, VOCImageLevelDataset):
                dataset['data_prefix'] = dict(prefix, xml_path=None)
    loader = copy.deepcopy(test)
    for key in ('batch_sampler', 'num_batch_per_epoch'):
        loader.pop(key, None)
    loader.update(
        batch_size=1, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    return loader


def evaluated_bkg(cfg: Config, source: Optional[str]) -> Union[float, str, None]:
    """The background threshold that the config evaluates a map with.

    A number, or the name of a file of thresholds
    (:class:`~mmseg_more.masks.calibration.Calibration`).
    """
    evaluators = evaluator_list(cfg.get('test_evaluator'))
    for evaluator in evaluators:
        bkg = evaluator.get('bkg')
        bkg = bkg.get(source) if isinstance(bkg, Mapping) else bkg
        if bkg is not None:
            return bkg
    return None
