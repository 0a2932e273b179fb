"""Version of this package, and the versions of others that it was run with."""

from typing import Tuple

__version__ = '0.1.0'

# module: (distributions that provide it, versions that fit). The reason for each
# bound stands beside the same range in requirements/; a test keeps the two equal.
REQUIRED: Tuple[Tuple[str, Tuple[str, ...], str], ...] = (
    ('mmengine', ('mmengine',), '>=0.10.5,<0.11.0'),
    ('mmcv', ('mmcv', 'mmcv-lite'), '>=2.1.0,<2.2.0'),
    ('mmseg', ('mmsegmentation',), '>=1.2.2,<1.3.0'),
    ('mmpretrain', ('mmpretrain',), '>=1.2.0,<1.3.0'),
    ('torch', ('torch',), '>=2.6,<3'),
)
