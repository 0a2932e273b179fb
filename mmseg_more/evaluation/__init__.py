"""Figures of masks, localization maps and image labels."""
from .localization_metric import LocalizationMetric

__all__ = ['LocalizationMetric']
