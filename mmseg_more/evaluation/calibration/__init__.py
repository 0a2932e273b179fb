"""Background thresholds of maps, chosen from image labels and the model alone."""

from .config import use_calibration
from .metric import CalibrationMetric

__all__ = ['CalibrationMetric', 'use_calibration']
