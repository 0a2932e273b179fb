"""Stands for ``mmcv._ext``, mmcv's compiled operations, where mmcv has none (mmcv-lite).

MMSegmentation imports them, and MoRe uses none: whatever is asked of this module is an
operation that says what to install when it is called. The module imports nothing, because
``mmseg_more_import_hook`` loads it before anything else of this package.
"""

from typing import Any, Callable


def __getattr__(name: str) -> Callable:
    # Python and torch probe modules for dunder names: these are truly absent.
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def missing_op(*args: Any, **kwargs: Any) -> None:
        raise ImportError(
            f'the operation {name!r} is compiled code of mmcv, and the installed mmcv '
            'has none. MoRe does not need it; a model that does needs the full package '
            'in place of mmcv-lite: `pip uninstall mmcv-lite`, then '
            '`pip install "mmcv>=2.1.0,<2.2.0"` (see '
            'https://mmcv.readthedocs.io/en/latest/get_started/installation.html '
            'for a build that fits your PyTorch), or onedl-mmcv built with them '
            '(docs/stacks.md)'
        )

    missing_op.__name__ = missing_op.__qualname__ = name
    return missing_op
