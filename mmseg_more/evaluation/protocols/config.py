"""Turns a config into one that scores masks by all protocols."""

from typing import Any, Mapping, Optional, Sequence

from mmengine.config import Config

from ...engine.evaluators import evaluator_list
from ...engine.hooks.utils import add_hook, find_hooks, remove_hooks
from ...engine.type_name import type_name
from ...masks.calibration import SCALE_KINDS, as_calibration
from ...models.structures import MASK_SCALES, SEG_SCALES
from ..localization_metric import LocalizationMetric
from .metric import MAPS, ProtocolMetric


def use_protocols(
    cfg: Config,
    out_json: Optional[str] = None,
    num_workers: Optional[int] = None,
    ms_scales: Sequence[float] = MASK_SCALES,
    seg_scales: Sequence[float] = SEG_SCALES,
    calibration: Optional[str] = None,
    background: Optional[str] = None,
) -> None:
    """Have ``Runner.test`` score all protocols in place of the seeds alone.

    :class:`ProtocolMetric` takes the place of ``LocalizationMetric`` in
    ``test_evaluator``, with its thresholds; other metrics stay.
    :class:`LocalizationHook` is told the scales.

    Args:
        cfg: Complete config; changed.
        out_json: File for the figures.
        num_workers: Processes for the CRF; None for one per usable core.
        ms_scales: Scales of the maps that become masks.
        seg_scales: Scales of the segmentation.
        calibration: File of thresholds that were chosen without masks, in place of those
            of the config.
        background: What the CRF takes for the background of a map, see
            :class:`~mmseg_more.masks.MaskRecipe`. None: 'calibrated' with a
            ``calibration``, else 'complement'.

    Raises:
        FileNotFoundError: If there is no such file of thresholds.
        ValueError: If the config tests with test-time augmentation, which has
            scales of its own, or has no test data.
    """
    if type_name(cfg.model) == 'MoReTTAModel':
        raise ValueError(
            'the protocols run scales and flips of their own: leave '
            'test-time augmentation (--tta) out'
        )
    if not cfg.get('test_dataloader'):
        raise ValueError('the protocols need `test_dataloader` in the config')
    evaluators = evaluator_list(cfg.get('test_evaluator'))
    known = ('LocalizationMetric', LocalizationMetric)
    metric = dict(
        type=ProtocolMetric.__name__,
        split=_split_name(cfg.test_dataloader.dataset),
        num_workers=num_workers,
        out_json=out_json,
    )
    for evaluator in evaluators:
        if evaluator['type'] in known:
            metric.update(
                {
                    key: evaluator[key]
                    for key in ('bkg', 'thresholds', 'ignore_index')
                    if key in evaluator
                }
            )
    if calibration is not None:
        for kind in SCALE_KINDS:  # what is wrong with it is said now
            as_calibration(calibration).of_kind(kind)
        metric['bkg'] = calibration
        background = background or 'calibrated'
    if background is not None:
        metric['background'] = background
    cfg.test_evaluator = [metric] + [
        other for other in evaluators if other['type'] not in known
    ]
    asked = dict(type='LocalizationHook', draw=False)
    for hook in find_hooks(cfg, 'LocalizationHook'):
        asked = dict(hook)
    asked.update(
        maps=MAPS,
        cam_scales=(1.0,),
        lam_scales=(1.0,),
        ms_scales=tuple(ms_scales),
        seg_scales=tuple(seg_scales),
        policy='image-labels',  # the only classes that maps are scored with
    )
    remove_hooks(cfg, 'LocalizationHook')
    add_hook(cfg, asked)


def _split_name(dataset: Mapping[str, Any]) -> str:
    while 'dataset' in dataset:  # RepeatDataset and its like
        dataset = dataset['dataset']
    split = dataset.get('ann_file') or 'all images'
    return f'{split} of {dataset.get("data_root") or dataset["type"]}'
