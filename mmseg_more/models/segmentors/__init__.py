from .more import MoRe
from .more_tta import MoReTTAModel
from .pseudo_labels import PseudoLabeler

__all__ = ['MoRe', 'MoReTTAModel', 'PseudoLabeler']
