"""Docstrings in Google's style, whose types stand in the signatures alone.

The style is checked by ruff (pyproject.toml), which has no rule against types.
"""

import ast
import re
from typing import Iterator, List, Tuple

import pytest

from golden import ROOT

FILES = sorted(
    path for path in (ROOT / 'mmseg_more').rglob('*.py') if '.mim' not in path.parts
)
TYPED_ENTRY = re.compile(r' {4}\*{0,2}\w[\w, *]* \(.*?\):')
TYPED_RESULT = re.compile(
    r' {4}(bool|dict|float|int|list|str|tuple|Tensor|np\.ndarray|nn\.Module)(\[.*?\])?: '
)


def sections(docstring: str) -> Iterator[Tuple[str, List[str]]]:
    """Title and lines of each section of a cleaned docstring."""
    for match in re.finditer(r'^(\w+):\n((?: {4}.*(?:\n|$)|\n)+)', docstring, re.M):
        yield match[1], match[2].splitlines()


def docstrings(source: str) -> Iterator[Tuple[str, str]]:
    """Name and docstring of each class and function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node.name, text


def types_in(docstring: str) -> List[str]:
    """Entries of arguments and results that name a type."""
    wrong = []
    for title, lines in sections(docstring):
        if title == 'Args':
            wrong += [line.strip() for line in lines if TYPED_ENTRY.match(line)]
        elif title in ('Returns', 'Yields') and TYPED_RESULT.match(lines[0]):
            wrong.append(lines[0].strip())
    return wrong


def test_types_are_in_signatures_alone():
    assert len(FILES) > 100
    wrong = [
        f'{path.relative_to(ROOT)}: {name}: {line}'
        for path in FILES
        for name, text in docstrings(path.read_text())
        for line in types_in(text)
    ]
    assert not wrong


@pytest.mark.parametrize(
    'entry',
    [
        'Args:\n    size (int): In pixels.',
        'Args:\n    a: First.\n    b (dict, optional): Second,\n        in two lines.',
        'Args:\n    **kwargs (Any): The rest.',
        'Returns:\n    Tensor: ``(B, K)``.',
        'Returns:\n    list[str]: Names.',
    ],
)
def test_types_are_found(entry):
    (line,) = types_in(f'A sentence.\n\n{entry}\n\nRaises:\n    ValueError: If wrong.\n')
    assert ':' in line


@pytest.mark.parametrize(
    'entry',
    [
        'Args:\n    size: In pixels (of the image): a number.',
        'Args:\n    low, high: Of the labels.\n        all (of them): more text',
        'Returns:\n    Three things: one, two and three.',
    ],
)
def test_prose_is_no_type(entry):
    assert not types_in(f'A sentence.\n\n{entry}\n')
