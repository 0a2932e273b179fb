"""Figures of masks, localization maps and image labels."""

from .calibration import use_calibration
from .calibration_metric import CalibrationMetric
from .localization_metric import LocalizationMetric
from .protocol_metric import ProtocolMetric
from .protocols import use_protocols

__all__ = [
    'CalibrationMetric',
    'LocalizationMetric',
    'ProtocolMetric',
    'use_calibration',
    'use_protocols',
]
