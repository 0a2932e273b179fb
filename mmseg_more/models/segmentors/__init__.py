"""The segmentor and its stations: maps, training labels, test-time augmentation."""

from .localizer import Localizer
from .more import MoRe
from .more_tta import MoReTTAModel
from .training_labels import TrainingLabeler

__all__ = ['Localizer', 'MoRe', 'MoReTTAModel', 'TrainingLabeler']
