"""Figures of masks, localization maps and image labels."""

from .calibration_metric import CalibrationMetric
from .localization_metric import LocalizationMetric
from .protocol_metric import ProtocolMetric
from .protocols import use_protocols
from .use_reliability import use_reliability

__all__ = [
    'CalibrationMetric',
    'LocalizationMetric',
    'ProtocolMetric',
    'use_protocols',
    'use_reliability',
]
