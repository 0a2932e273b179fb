"""Turns a config into one that chooses background thresholds without masks."""

from typing import List, Optional, Sequence, Union

from mmengine.config import Config

from mmseg.registry import DATASETS, METRICS

from ...engine.hooks.utils import add_hook, remove_hooks
from ...engine.type_name import type_name
from ...masks.calibration import CALIBRATED_MAPS
from ...masks.config import MASK_HOOKS, mask_dataloader
from ...models.structures import MASK_SCALES
from ...spread import spread_indices
from .metric import CalibrationMetric


def use_calibration(
    cfg: Config,
    out_file: str,
    split: str = 'train',
    num_images: int = 300,
    ms_scales: Sequence[float] = MASK_SCALES,
    per_class: bool = True,
) -> None:
    """Have ``Runner.test`` choose the thresholds of the maps instead of evaluating.

    No mask of the truth is needed or opened. :class:`CalibrationMetric` takes the place of
    all evaluators, and :class:`LocalizationHook` asks for the maps.

    Args:
        cfg: Complete config; changed.
        out_file: File for the thresholds, as ``out_file`` of :class:`CalibrationMetric`.
        split: 'train', 'val' or 'test': whose data; they need image labels.
        num_images: How many of its images, spread evenly over it.
        ms_scales: Scales of the maps that become masks.
        per_class: As in :class:`CalibrationMetric`.

    Raises:
        ValueError: If the config tests with test-time augmentation, or lacks the data.
    """
    if type_name(cfg.model) == 'MoReTTAModel':
        raise ValueError(
            'calibration runs scales and flips of its own: leave test-time augmentation '
            '(--tta) out'
        )
    if num_images < 1:
        raise ValueError(f'num_images must be at least 1, got {num_images}')
    metric = dict(
        type=CalibrationMetric.__name__,
        out_file=out_file,
        per_class=per_class,
        source=dict(checkpoint=cfg.get('load_from'), config=_config_name(cfg), split=split),
    )
    METRICS.build(metric)  # what is wrong with the arguments is said now
    cfg.test_dataloader = mask_dataloader(cfg, split, with_labels=True)
    dataset = cfg.test_dataloader.dataset
    size = len(DATASETS.build(dict(dataset, pipeline=[])))
    if size > num_images:
        chosen = spread_indices(size, num_images)
        dataset.indices = _positions(dataset.get('indices'), chosen, size)
    cfg.test_evaluator = [metric]
    remove_hooks(cfg, 'LocalizationHook', *MASK_HOOKS)
    add_hook(
        cfg,
        dict(
            type='LocalizationHook',
            maps=CALIBRATED_MAPS,
            cam_scales=(1.0,),
            lam_scales=(1.0,),
            ms_scales=tuple(ms_scales),
            policy='image-labels',
            draw=False,
        ),
    )


def _positions(
    indices: Union[int, Sequence[int], None], chosen: Sequence[int], size: int
) -> List[int]:
    """Where images of a subset stand among all of its data set.

    Args:
        indices: The subset, as MMEngine's data sets take it: the first n, the last n
            (``-n``), or positions. None: all images.
        chosen: Positions within the subset.
        size: Number of images of the subset.
    """
    if indices is None:
        return list(chosen)
    if isinstance(indices, int):
        first = -size if indices < 0 else 0  # counted from the end
        return [first + index for index in chosen]
    return [indices[index] for index in chosen]


def _config_name(cfg: Config) -> Optional[str]:
    return None if cfg.filename is None else str(cfg.filename)
