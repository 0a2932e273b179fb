"""MoRe: weakly supervised semantic segmentation from image labels, for MMSegmentation.

``custom_imports = dict(imports=['mmseg_more'])`` in a config is all that is needed:
importing this package checks the versions it depends on and registers every model,
dataset, hook, scheduler, metric and visualizer in MMSegmentation's registries.
"""

from . import compat

# before the first import of mmcv's operations, which the next lines lead to
compat.apply()

from . import apis, datasets, deployment, engine, evaluation, masks, models, visualization  # noqa: E402
from .model_index import add_to_inferencers  # noqa: E402
from .version import __version__  # noqa: E402

add_to_inferencers()

__all__ = [
    '__version__',
    'apis',
    'compat',
    'datasets',
    'deployment',
    'engine',
    'evaluation',
    'masks',
    'models',
    'visualization',
]
