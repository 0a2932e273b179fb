from .localizer import Localizer
from .more import MoRe
from .more_tta import MoReTTAModel
from .training_labels import TrainingLabeler

__all__ = ['Localizer', 'MoRe', 'MoReTTAModel', 'TrainingLabeler']
