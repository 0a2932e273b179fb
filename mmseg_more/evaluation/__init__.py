"""Figures of masks, localization maps and image labels."""

from .localization_metric import LocalizationMetric
from .protocol_metric import ProtocolMetric
from .protocols import use_protocols

__all__ = ['LocalizationMetric', 'ProtocolMetric', 'use_protocols']
