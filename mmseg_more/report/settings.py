"""What a page takes from a config: data, maps and thresholds of its evaluation."""

from typing import Any

from mmengine.config import Config

from mmseg.registry import DATASETS, HOOKS, METRICS

from ..engine.evaluators import evaluator_list
from ..engine.hooks.utils import find_hooks
from ..engine.type_name import type_name
from ..evaluation import LocalizationMetric
from ..evaluation.thresholds import MapThresholds
from ..masks.config import mask_dataloader
from ..models.structures import LocalizationRequest
from ..visualization.model_grid import MAPS


def report_dataset(cfg: Config, split: str) -> Any:
    """The data set of a split, at the sizes of the test.

    That of 'train' is seen through the test pipeline, and no mask of it is opened. The
    others are as they are evaluated, with true masks if their pipelines load these.

    Args:
        cfg: Complete config.
        split: 'train', 'val' or 'test'.

    Raises:
        ValueError: If the config has no such split.
    """
    if split == 'train':
        return DATASETS.build(mask_dataloader(cfg, split, with_labels=True).dataset)
    data = cfg.get(f'{split}_dataloader')
    if data is None:
        raise ValueError(f'the config has no `{split}_dataloader`: name another --split')
    return DATASETS.build(data['dataset'])


def shown_maps(cfg: Config) -> LocalizationRequest:
    """Attention, CAM and LAM at the scales that the config evaluates them at."""
    hooks = find_hooks(cfg, 'LocalizationHook') or [dict(type='LocalizationHook')]
    request: LocalizationRequest = HOOKS.build(dict(hooks[0])).request
    return request._replace(maps=MAPS, ms_scales=(), seg_scales=())


def evaluated_thresholds(cfg: Config) -> MapThresholds:
    """Background threshold and sweep of each map, as the config evaluates them."""
    evaluators = evaluator_list(cfg.get('val_evaluator') or cfg.get('test_evaluator'))
    own = [part for part in evaluators if type_name(part) == 'LocalizationMetric']
    metric = METRICS.build(dict(own[0])) if own else LocalizationMetric()
    metric.localization_request = shown_maps(cfg)
    return metric.thresholds
