"""What MMEngine calls in every package whose models are built by name.

``mmengine.hub.get_model('mmseg_more::...')`` imports ``utils`` of the package and calls
:func:`register_all_modules`, as does a registry of the scope ``mmseg_more``.
"""

from mmengine.registry import DefaultScope

import mmseg.utils


def register_all_modules(init_default_scope: bool = True) -> None:
    """Register everything of MMSegmentation; this package is registered by its import.

    Args:
        init_default_scope: Whether the scope ``mmseg`` becomes the default, where there is
            no default yet.
    """
    is_unset = DefaultScope.get_current_instance() is None
    mmseg.utils.register_all_modules(init_default_scope and is_unset)
