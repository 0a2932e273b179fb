"""Masks scored by all protocols in one run: raw, multi-scale, multi-scale with CRF."""

from .config import use_protocols
from .metric import ProtocolMetric

__all__ = ['ProtocolMetric', 'use_protocols']
