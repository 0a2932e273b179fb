"""Whether masks know how good they are: their confidence against the truth."""

from .config import use_reliability
from .metric import ReliabilityMetric

__all__ = ['ReliabilityMetric', 'use_reliability']
