"""Figures of masks, localization maps and image labels.

Beside what all count with, a folder for each of: the metrics whose figures are means over
the classes (:mod:`.classwise`), the protocols of masks (:mod:`.protocols`), thresholds
that are chosen without masks (:mod:`.calibration`), the confidence of masks
(:mod:`.reliability`) and the health of a training (:mod:`.health`).
"""

from .calibration import CalibrationMetric, use_calibration
from .classwise import (
    BoundaryIoUMetric,
    MaxBoxAccV2Metric,
    ObjectSizeIoUMetric,
    PointingGameMetric,
    PxAPMetric,
)
from .health import HealthHook
from .localization_metric import LocalizationMetric
from .protocols import ProtocolMetric, use_protocols
from .reliability import ReliabilityMetric, use_reliability

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
