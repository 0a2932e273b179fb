"""Finds what needs true masks in a config whose data set is told to do without."""

from typing import Any, Iterator, Mapping, Optional

from ..masks.identity import TRUTH_LOADERS
from .evaluators import evaluator_list
from .type_name import type_name

_METRICS = frozenset(
    (
        'BoundaryIoUMetric',
        'CityscapesMetric',
        'DepthMetric',
        'IoUMetric',
        'LocalizationMetric',
        'MaxBoxAccV2Metric',
        'ObjectSizeIoUMetric',
        'PointingGameMetric',
        'ProtocolMetric',
        'PxAPMetric',
        'ReliabilityMetric',
    )
)
"""Metrics that need a true mask of each image, unless they only write predictions."""


def check_truth(cfg: Mapping[str, Any]) -> None:
    """See that nothing needs masks where ``with_masks=False``, before anything is built.

    Args:
        cfg: Complete config.

    Raises:
        ValueError: If the pipeline loads masks, or a metric compares with them; names what
            to change.
    """
    for split in ('val', 'test'):
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        if not isinstance(dataset, Mapping) or dataset.get('with_masks') is not False:
            continue
        loader = next(_truth_loaders(dataset.get('pipeline') or ()), None)
        metric = _metric_of_truth(cfg.get(f'{split}_evaluator'))
        where = f'{split}_dataloader.dataset'
        if loader is not None:
            raise ValueError(
                f'{where} has with_masks=False, but its pipeline loads masks by {loader}: '
                f'take {loader} out of the pipeline, and metrics that compare with masks '
                f'out of {split}_evaluator (make_config writes such a config), or give '
                'the data set masks'
            )
        if metric is not None:
            raise ValueError(
                f'{metric} compares with true masks, and {where} has none '
                '(with_masks=False). With masks of these images: with_masks=True, and '
                'LoadMask in the pipeline. Without any, image labels can be scored '
                '(mmpretrain.MultiLabelMetric), maps be judged (HealthHook) and thresholds '
                'be chosen (tools/test.py --calibrate): docs/data.md'
            )


def _truth_loaders(pipeline: Any) -> Iterator[str]:
    """Names of the steps that load masks, in the branches of ``TestTimeAug`` too."""
    for step in pipeline:
        if isinstance(step, (list, tuple)):
            yield from _truth_loaders(step)
        elif type_name(step) in TRUTH_LOADERS:
            yield type_name(step)
        elif isinstance(step, Mapping) and isinstance(
            step.get('transforms'), (list, tuple)
        ):
            yield from _truth_loaders(step['transforms'])


def _metric_of_truth(evaluators: Any) -> Optional[str]:
    """Name of the first metric that needs masks; None: there is none."""
    for evaluator in evaluator_list(evaluators):
        if type_name(evaluator) in _METRICS and not evaluator.get('format_only'):
            return type_name(evaluator)
    return None
