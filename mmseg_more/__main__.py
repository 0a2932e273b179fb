"""Run a tool of this package or of MMSegmentation, with this package imported first.

    python -m mmseg_more                                         # what there is
    python -m mmseg_more train more_vit-t_shapes                 # a tool of this package
    python -m mmseg_more publish_model iter_1400.pth shapes.pth  # one of MMSegmentation
    torchrun --nproc_per_node 2 -m mmseg_more train more_vit-b_voc --launcher pytorch

Without a tool it prints the installed versions, what is missing, and what can be typed.
"""

import difflib
import platform
import runpy
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import torch
from mmengine.infer import BaseInferencer
from packaging.requirements import Requirement

from . import __version__, missing_extension
from .compat import installed_stack, installed_version, installed_versions
from .engine.command_line import command
from .model_index import index_folder, shipped_models
from .version import STACKS, TORCH


def own_tools() -> Dict[str, Path]:
    """Command lines of this package by name."""
    return _tools(index_folder() / 'tools')


def mmseg_tools() -> Dict[str, Path]:
    """Those of the installed MMSegmentation."""
    return _tools(Path(BaseInferencer._get_repo_or_mim_dir('mmseg')) / 'tools')


def _tools(folder: Path) -> Dict[str, Path]:
    # of two with one name the one nearer to the top stays, as with `mim run`
    paths = sorted(folder.rglob('*.py'), key=lambda path: (len(path.parts), path))
    return {
        path.stem: path
        for path in reversed(paths)
        if '__main__' in path.read_text(encoding='utf-8')
    }


def overview() -> str:
    """Versions, what is missing, and what can be typed."""
    lines = [f'mmseg_more {__version__}, Python {platform.python_version()}']
    for _, distributions, _ in (*STACKS[installed_stack()], TORCH):
        versions = installed_versions(distributions)
        lines.extend(f'{name} {number}' for name, number in versions.items())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'
    has_operations = sys.modules.get('mmcv._ext') is not missing_extension
    lines.append(f'GPU: {device}')
    lines.append(f'compiled operations of mmcv: {"yes" if has_operations else "no"}')
    lines.extend(['', *missing_packages()])
    lines.extend(['', 'python -m mmseg_more TOOL --help; a config is a file or a model'])
    for title, names in (
        ('models', shipped_models()),
        ('tools', own_tools()),
        ('tools of MMSegmentation', mmseg_tools()),
    ):
        lines.append(f'{title}: {" ".join(sorted(names))}')
    return '\n'.join(lines)


def missing_packages() -> Iterator[str]:
    """A line for each group of requirements that are not fulfilled, with the remedy."""
    try:
        requirements = [Requirement(line) for line in requires('mmseg_more') or ()]
    except PackageNotFoundError:
        yield 'mmseg_more is not installed, only found: pip install -e . in its checkout'
        return
    stack = installed_stack()
    extras = {'': 'required', stack: 'required', 'optional': 'optional'}
    if stack == 'openmmlab':  # the fork has a mim of its own (docs/stacks.md)
        extras['mim'] = 'to use mim'
    groups: Dict[str, List[str]] = {group: [] for group in extras.values()}
    for requirement in requirements:
        number = installed_version(requirement.name)
        fits = number is not None and requirement.specifier.contains(number, True)
        group = _group(requirement, extras)
        if group is not None and not fits:
            requirement.marker = None
            groups[group].append(f'"{requirement}"')
    for group, missing in groups.items():
        remedy = f'pip install {" ".join(missing)}' if missing else 'nothing'
        yield f'missing, {group}: {remedy}'


def _group(requirement: Requirement, extras: Dict[str, str]) -> Optional[str]:
    """The group of the first extra that the requirement belongs to; None if of none."""
    marker = requirement.marker
    for extra, group in extras.items():
        if marker is None or marker.evaluate(dict(extra=extra)):
            return group
    return None


def find_tool(name: str) -> Path:
    """The script of a tool; one of this package goes before one of MMSegmentation.

    Raises:
        ValueError: If there is none of that name; says which there are.
    """
    tools = {**mmseg_tools(), **own_tools()}
    if name not in tools:
        near = ' or '.join(difflib.get_close_matches(name, tools, n=2))
        hint = f'did you mean {near}?' if near else f'there are {", ".join(tools)}'
        raise ValueError(f'there is no tool {name}; {hint}')
    return tools[name]


@command
def main() -> None:
    """Run the tool that the command line names; without one, say what there is."""
    if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help'):
        print(overview())
        return
    script = find_tool(sys.argv[1])
    sys.argv[:2] = [str(script)]
    sys.path.insert(0, str(script.parent))  # as Python does for a script
    runpy.run_path(str(script), run_name='__main__')


if __name__ == '__main__':
    main()
