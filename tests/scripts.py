"""Command lines of the checkout, which are no modules of a package."""

import importlib
import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Iterator

from golden import ROOT


def load_script(path: Path) -> ModuleType:
    """A script as a module, anew at each call; its ``main`` is not run."""
    spec = importlib.util.spec_from_file_location(f'script_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def analysis_script(name: str) -> Iterator[ModuleType]:
    """A script of tools/analysis as a module, which finds its neighbours meanwhile."""
    folder = str(ROOT / 'tools' / 'analysis')
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(folder)
