"""Figures of masks, localization maps and image labels."""

from .boundary_iou import BoundaryIoUMetric
from .calibration import use_calibration
from .calibration_metric import CalibrationMetric
from .health_hook import HealthHook
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
    'CalibrationMetric',
    'HealthHook',
    'LocalizationMetric',
    'MaxBoxAccV2Metric',
    'ObjectSizeIoUMetric',
    'PointingGameMetric',
    'ProtocolMetric',
    'PxAPMetric',
    'ReliabilityMetric',
    'use_calibration',
    'use_protocols',
    'use_reliability',
]
