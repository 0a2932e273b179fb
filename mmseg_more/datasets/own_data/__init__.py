"""A user's own images: looked at, judged, split, and made a config of."""

from .config import NETWORKS, OwnConfig, config_files, plan_config, write_config
from .findings import Finding, find_all
from .page import survey_page
from .split import Split, draw_split
from .survey import ImageFacts, Survey, look_at_image, make_survey

__all__ = [
    'NETWORKS',
    'Finding',
    'ImageFacts',
    'OwnConfig',
    'Split',
    'Survey',
    'config_files',
    'draw_split',
    'find_all',
    'look_at_image',
    'make_survey',
    'plan_config',
    'survey_page',
    'write_config',
]
