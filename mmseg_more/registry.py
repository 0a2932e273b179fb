"""The scope ``mmseg_more``: MMSegmentation's registries by another name.

Everything of this package is registered in ``mmseg.registry``. MMEngine takes ``PACKAGE``
in ``_base_ = 'PACKAGE::...'`` and in ``get_model('PACKAGE::...')`` for a scope as well, and
looks for registries of that name in ``PACKAGE.registry``. These are empty: MMEngine looks
in MMSegmentation's next, and imports the modules that it would import for those.
"""

from mmengine.registry import Registry

import mmseg.registry

SCOPES = ('mmseg', 'mmseg_more')
"""Scopes in which a name stands for the same class."""


def _scope_of_this_package() -> dict:
    return {
        name: Registry(
            parent.name, parent=parent, scope='mmseg_more', locations=parent._locations
        )
        for name, parent in vars(mmseg.registry).items()
        if isinstance(parent, Registry)
    }


globals().update(_scope_of_this_package())
