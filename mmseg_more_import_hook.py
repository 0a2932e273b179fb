"""Lets mmseg be imported before mmseg_more, and configs be named ``mmseg_more::...``.

An installed mmseg_more brings ``mmseg_more.pth``, by which every start of Python imports
this file and calls :func:`install`. That registers :class:`ImportHook`, and neither imports
nor changes anything else; PyTorch and OpenMMLab's packages need not be installed.
``MMSEG_MORE_IMPORT_HOOK=0`` in the environment leaves the finder out, `pip uninstall
mmseg_more` removes it.
"""

import os
import sys

SWITCH = 'MMSEG_MORE_IMPORT_HOOK'
OPERATIONS = 'mmcv._ext'
CONFIG_NAMES = 'mmengine.config.utils'


class ImportHook:
    """A finder for two modules, which leaves every other one to Python.

    * ``mmcv._ext``, the compiled operations that mmseg imports: if mmcv has none
      (mmcv-lite), and mmseg is loaded or being loaded, ``mmseg_more/missing_extension.py``
      takes their place. Compiled operations that are there are found as ever.
    * ``mmengine.config.utils``: MMEngine's list of packages whose configs can be named
      ``PACKAGE::...`` gets the entry ``mmseg_more``, and with the fork OneDL one of mmseg
      that fits (``mmseg_more/compat.py``).
    """

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != OPERATIONS and name != CONFIG_NAMES:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if name == CONFIG_NAMES:
            return _with_config_name(spec)
        if spec is None and 'mmseg' in sys.modules:
            return _missing_extension()
        return spec


def _missing_extension():
    """Where the placeholder is, found without importing the package that it lies in."""
    from importlib.util import spec_from_file_location

    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'mmseg_more')
    return spec_from_file_location(OPERATIONS, os.path.join(folder, 'missing_extension.py'))


def _with_config_name(spec):
    """The module's specification; once it is loaded, its list has the entry."""
    if spec is None:
        return None
    load = spec.loader.exec_module

    def exec_module(module):
        load(module)
        packages = getattr(module, 'MODULE2PACKAGE', {})
        packages.setdefault('mmseg_more', 'mmseg_more.version')
        if 'mmseg' in packages and not _is_installed(packages['mmseg']):
            packages['mmseg'] = 'mmseg'

    spec.loader.exec_module = exec_module
    return spec


def _is_installed(distribution):
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def install():
    """Put the finder before Python's own ones; once, and unless it is switched off."""
    if os.environ.get(SWITCH) != '0' and ImportHook not in sys.meta_path:
        sys.meta_path.insert(0, ImportHook)
