"""Turns a config into one that scores the confidence of masks."""

from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

from mmengine.config import Config

from ...engine.hooks.utils import add_hook, remove_hooks
from ...engine.type_name import type_name
from ...masks.calibration import Calibration
from ...masks.config import evaluated_bkg
from ...masks.recipe import MaskRecipe
from ...models.structures import MAP_NAMES
from .metric import ReliabilityMetric


def use_reliability(
    cfg: Config,
    out_json: Optional[str] = None,
    sources: Optional[Sequence[str]] = None,
    fit_confidence: Optional[str] = None,
    num_workers: Optional[int] = None,
    **recipe: Any,
) -> None:
    """Have ``Runner.test`` score how sure masks are in place of the usual evaluation.

    :class:`ReliabilityMetric` takes the place of ``test_evaluator``; its masks are those
    that :func:`~mmseg_more.masks.use_pseudo_labels` writes with the same options, of the
    images of the test data, which need true masks.

    Args:
        cfg: Complete config; changed.
        out_json: File for the figures and the diagrams.
        sources: Of the masks. None: LAM and segmentation of a MoRe, the segmentation of
            other segmentors.
        fit_confidence: File for curves that calibrate the confidence, as ``curves_file`` of
            :class:`ReliabilityMetric`. Thresholds that it holds make the masks, if no
            ``calibration`` is given.
        num_workers: Processes for the CRF; None for one per usable core.
        recipe: Options of :class:`ReliabilityMetric`: ``policy``, ``crf``, ``multi_scale``,
            ``scales``, ``calibration``, ``background`` and ``bkg``; a map for which this
            gives no threshold takes that of the evaluation.

    Raises:
        FileNotFoundError: If there is no such calibration.
        ValueError: If an option is wrong, or the config tests with test-time augmentation
            or has no test data.
    """
    if type_name(cfg.model) == 'MoReTTAModel':
        raise ValueError(
            '--reliability scores masks without test-time augmentation: leave out --tta'
        )
    if not cfg.get('test_dataloader'):
        raise ValueError('--reliability needs `test_dataloader` in the config')
    localizes = type_name(cfg.model) == 'MoRe'
    if sources is None:
        sources = ('lam', 'seg') if localizes else ('seg',)
    given = recipe.pop('bkg', None)
    if given is not None and not isinstance(given, Mapping):
        given = dict.fromkeys(MAP_NAMES, given)
    thresholds = dict(given or {})
    default = (cfg.model.get('pseudo_label') or {}).get('bkg', 0.5)
    for name in MAP_NAMES:
        known = evaluated_bkg(cfg, name)
        thresholds.setdefault(name, default if known is None else known)
    if fit_confidence and recipe.get('calibration') is None:
        if Path(fit_confidence).expanduser().exists():
            if Calibration.load(fit_confidence).thresholds:
                recipe['calibration'] = fit_confidence
    metric = dict(
        type=ReliabilityMetric.__name__,
        sources=tuple(sources),
        bkg=thresholds,
        curves_file=fit_confidence,
        num_workers=num_workers,
        out_json=out_json,
        **recipe,
    )
    # (of `seg` the policy may come to be 'all', where the data have no image labels)
    resolved = {  # what is wrong with the options is said now
        source: one.resolve(localizes, with_labels=True)
        for source, one in ReliabilityMetric(**_without(metric, 'type')).recipes.items()
    }
    cfg.test_evaluator = [metric]
    remove_hooks(cfg, 'LocalizationHook')
    if localizes:
        add_hook(cfg, _hook(resolved))


def _hook(recipes: Dict[str, MaskRecipe]) -> dict:
    """The LocalizationHook that asks for what these masks are made of."""
    maps = [source for source in recipes if source != 'seg']
    hook = dict(
        type='LocalizationHook',
        draw=False,
        maps=tuple(maps) or ('lam',),
        cam_scales=(1.0,),
        lam_scales=(1.0,),
        policy='all',
    )
    for source, recipe in recipes.items():
        kind = 'seg_scales' if source == 'seg' else 'ms_scales'
        hook[kind] = tuple(recipe.scales or ())
        if source != 'seg':
            hook['policy'] = str(recipe.policy)
    return hook


def _without(mapping: dict, key: str) -> dict:
    return {name: value for name, value in mapping.items() if name != key}
