"""Version of this package, and the versions of others that it was run with."""

from typing import Dict, Tuple

__version__ = '0.1.0'

# (module, distributions that provide it, versions that fit). The reason for each bound
# stands beside the same range in requirements/; a test keeps the two equal.
Package = Tuple[str, Tuple[str, ...], str]

TORCH: Package = ('torch', ('torch',), '>=2.6,<3')

# OpenMMLab's last releases and the living fork of them: the same modules, so that only one
# of the two can be installed. Each is named after its extra in setup.py; where neither is
# installed, the first is asked for.
STACKS: Dict[str, Tuple[Package, ...]] = {
    'openmmlab': (
        ('mmengine', ('mmengine',), '>=0.10.5,<0.11.0'),
        ('mmcv', ('mmcv', 'mmcv-lite'), '>=2.1.0,<2.2.0'),
        ('mmseg', ('mmsegmentation',), '>=1.2.2,<1.3.0'),
        ('mmpretrain', ('mmpretrain',), '>=1.2.0,<1.3.0'),
    ),
    'onedl': (
        ('mmengine', ('onedl-mmengine',), '>=0.10.12,<0.11.0'),
        ('mmcv', ('onedl-mmcv',), '>=2.3.6,<2.4.0'),
        ('mmseg', ('onedl-mmsegmentation',), '>=1.4.2,<1.5.0'),
        ('mmpretrain', ('onedl-mmpretrain',), '>=1.3.6,<1.4.0'),
    ),
}
