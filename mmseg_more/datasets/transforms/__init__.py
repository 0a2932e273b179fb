from .formatting import PackImageLevelInputs
from .processing import PILColorJitter, RandomRescale

__all__ = ['PILColorJitter', 'PackImageLevelInputs', 'RandomRescale']
