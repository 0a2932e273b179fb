"""The health of a training, judged without masks: figures -> findings -> what is said."""

from .figures import HealthFigures, health_score
from .findings import HealthRules
from .hook import HealthHook

__all__ = ['HealthFigures', 'HealthHook', 'HealthRules', 'health_score']
