"""Figures of masks, localization maps and image labels."""

from .boundary_iou import BoundaryIoUMetric
from .localization_metric import LocalizationMetric
from .max_box_acc import MaxBoxAccV2Metric
from .object_size_iou import ObjectSizeIoUMetric
from .pixel_average_precision import PxAPMetric
from .pointing_game import PointingGameMetric
from .protocol_metric import ProtocolMetric
from .protocols import use_protocols
from .reliability_metric import ReliabilityMetric
from .use_reliability import use_reliability

__all__ = [
    'BoundaryIoUMetric',
    'ReliabilityMetric',
    'LocalizationMetric',
    'MaxBoxAccV2Metric',
    'ObjectSizeIoUMetric',
    'PointingGameMetric',
    'ProtocolMetric',
    'PxAPMetric',
    'use_protocols',
    'use_reliability',
]
