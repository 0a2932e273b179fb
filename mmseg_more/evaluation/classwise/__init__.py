"""The metrics of the field whose figures are means over the classes, one per file.

All are a :class:`~mmseg_more.evaluation.classwise.classwise_metric.ClasswiseMetric`. Those
of maps (PxAP, MaxBoxAccV2, pointing game) need no threshold; those of labels (boundary IoU,
IoU by object size) score the segmentation and what the maps become by theirs.
"""

from .boundary_iou import BoundaryIoUMetric
from .max_box_acc import MaxBoxAccV2Metric
from .object_size_iou import ObjectSizeIoUMetric
from .pixel_average_precision import PxAPMetric
from .pointing_game import PointingGameMetric

__all__ = [
    'BoundaryIoUMetric',
    'MaxBoxAccV2Metric',
    'ObjectSizeIoUMetric',
    'PointingGameMetric',
    'PxAPMetric',
]
