"""What the documentation names exists: links, files, options, keys, types, sections."""

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest
from mmengine.config import Config
from mmengine.registry import STRATEGIES

import mmseg_more  # noqa: F401  registers everything

from mmseg.registry import (
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    RUNNERS,
    TRANSFORMS,
    VISBACKENDS,
    WEIGHT_INITIALIZERS,
)

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for pattern in ('*.md', 'docs/*.md', 'configs/*/*.md', 'tests/data/*.md')
    for path in ROOT.glob(pattern)
)
REGISTRIES = (
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    RUNNERS,
    STRATEGIES,
    TRANSFORMS,
    VISBACKENDS,
    WEIGHT_INITIALIZERS,
)
FOLDERS = '(?:mmseg_more|tools|configs|benchmarks|tests|docs)'
# what a reader writes, not what the repository holds; so are names with NAME in them
EXAMPLES = {'configs/more/mine.py'}

pages = pytest.mark.parametrize(
    'page', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r'^ *```.*?^ *```', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> Iterator[str]:
    for match in re.finditer(
        rf'^( *)```{language}\n(.*?)^ *```', page.read_text(), re.DOTALL | re.MULTILINE
    ):
        indent, block = match.groups()
        yield '\n'.join(line.removeprefix(indent) for line in block.splitlines())


def commands(page: Path) -> Iterator[List[str]]:
    """Words of each command; continued lines are one, comments are none.

    What follows a bare ``--`` is a command that the first one runs.
    """
    for block in blocks(page, 'bash'):
        for line in block.replace('\\\n', ' ').splitlines():
            for part in re.sub(r'(^|\s)#.*', '', line).split(' -- '):
                if part.split():
                    yield part.split()


def anchors(page: Path) -> Set[str]:
    """Anchors that GitHub makes of the headings."""
    found = set()
    for line in prose(page).splitlines():
        match = re.match(r'#+ (.*)', line)
        if match:
            text = re.sub(r'[^\w\- ]', '', match.group(1).lower())
            found.add(text.strip().replace(' ', '-'))
    return found


@pages
def test_links_lead_somewhere(page):
    text = prose(page)
    links = re.findall(r'\]\(([^)\s]+)\)', text) + re.findall(r'src="([^"]+)"', text)
    wrong = []
    for link in links:
        if '://' in link:
            continue
        name, _, anchor = link.partition('#')
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


@pages
def test_named_files_exist(page):
    named = set(re.findall(rf'(?<![\w/.-]){FOLDERS}/[\w./-]*\w', page.read_text()))
    assert not sorted(
        name
        for name in named - EXAMPLES
        if not (ROOT / name).exists() and 'NAME' not in name
    )


def test_the_flow_names_files_and_tests():
    """Each row of the table: files below mmseg_more/, tests below tests/."""
    text = (ROOT / 'docs' / 'method.md').read_text()
    table = text[text.index('## How the data flow') : text.index('## 1. Backbone')]
    rows = [line.split(' | ') for line in table.splitlines() if line.startswith('| ')]
    assert len(rows) > 10
    missing = []
    for row in rows[1:]:
        for cell, folder in ((row[1], 'mmseg_more'), (row[-1], 'tests')):
            names = re.findall(r'`([\w/]+(?:\.py|/))`', cell)
            missing += [name for name in names if not (ROOT / folder / name).exists()]
    assert not missing


def option_names(script: str) -> Set[str]:
    """Options that a script, or what its folder holds for all scripts, defines."""
    path = ROOT / script
    sources = [path, *path.parent.glob('common/*.py')]
    if 'from study.command import' in path.read_text():
        sources.append(path.parent / 'study' / 'command.py')
    text = '\n'.join(source.read_text() for source in sources)
    shared = {'--cfg-options'} if 'add_config_options(' in text else set()
    return {'--help', *shared, *re.findall(r"'(--[\w-]+)'", text)}


# options that a script makes of a table rather than writing them out
DERIVED = {'benchmarks/scaling.py': {'--sizes', '--batch-sizes', '--classes', '--scales'}}


@pages
def test_options_of_commands_exist(page):
    unknown = []
    for words in commands(page):
        scripts = [w for w in words if re.fullmatch(r'(tools|benchmarks)/[\w/]+\.py', w)]
        if not scripts:
            continue
        script = scripts[0]
        known = option_names(script) | DERIVED.get(script, set())
        given = [w for w in words[words.index(script) :] if w.startswith('--')]
        unknown += [f'{script} {option}' for option in given if option not in known]
    assert not unknown


@pages
def test_config_options_exist(page):
    """Where a command names a shipped config, the parents of its keys are in it."""
    unknown = []
    for words in commands(page):
        configs = [w for w in words if re.fullmatch(r'configs/[\w/.-]+\.py', w)]
        if '--cfg-options' not in words or not configs or configs[0] in EXAMPLES:
            continue
        cfg = Config.fromfile(ROOT / configs[0])
        for word in words[words.index('--cfg-options') + 1 :]:
            if word.startswith('-') or '=' not in word:
                break
            *parents, name = word.split('=')[0].split('.')
            if parents == ['randomness']:  # of MMEngine's Runner, with defaults
                continue
            section: Dict = cfg
            for parent in parents:
                section = section.get(parent) or {}
            if not section:
                unknown.append(word)
    assert not unknown


@pages
def test_python_parses_and_types_are_registered(page):
    unknown = []
    for block in blocks(page, 'python'):
        ast.parse(block)
        for name in re.findall(r"type='([\w.]+)'", block):
            if not any(registry.get(name) for registry in REGISTRIES):
                unknown.append(name)
    assert not unknown


def citations() -> Iterator[Tuple[str, int]]:
    for folder in ('mmseg_more', 'benchmarks', 'tests', 'tools', 'configs'):
        for path in sorted((ROOT / folder).rglob('*.py')):
            text = re.sub(r'\s+#?\s*', ' ', path.read_text())
            for numbers in re.findall(r'docs/method\.md, sections? ([\d, and]+)', text):
                for number in re.findall(r'\d+', numbers):
                    yield path.relative_to(ROOT).as_posix(), int(number)


def test_cited_sections_exist():
    headings = re.findall(r'^## (\d+)\. ', (ROOT / 'docs' / 'method.md').read_text(), re.M)
    assert headings == [str(n) for n in range(1, 10)]
    cited = list(citations())
    assert cited
    assert not [where for where in cited if not 1 <= where[1] <= 9]


def test_nothing_outside_of_the_repository_is_cited():
    """The method is described in docs/method.md; no other description is at hand."""
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ('mmseg_more', 'benchmarks', 'tests', 'tools', 'configs', 'docs')
        for path in (ROOT / folder).rglob('*')
        if path.suffix in ('.py', '.md', '.sh')
        and re.search(r'\bMETHO[D]\b', path.read_text())
    ]
    assert not found


COLUMNS = [
    'Method',
    'Backbone',
    'Crop Size',
    'Lr schd',
    'Mem (GB)',
    'Inf time (fps)',
    'Device',
    'mIoU',
]


@pytest.mark.parametrize('method', ['more', 'two_stage'])
def test_readme_of_configs_follows_mmsegmentations_template(method):
    """Sections, columns of the results, a row for each config, its short name."""
    folder = ROOT / 'configs' / method
    text = (folder / 'README.md').read_text()
    sections = re.findall('^## (.*)', text, re.M)
    template = ['Introduction', 'Abstract', 'Results and models', 'Usage', 'Citation']
    assert [name for name in sections if name in template] == template
    assert '<!-- [ALGORITHM] -->' in text and '<!-- [ABSTRACT] -->' in text
    headers = re.findall(r'^\| (Method \| Backbone .*) \|$', text, re.M)
    assert headers
    for header in headers:
        columns = header.split(' | ')
        assert columns[: len(COLUMNS)] == COLUMNS
        assert columns[-2:] == ['config', 'download']
    for path in folder.glob('*.py'):
        (base,) = re.findall("^_base_ = './(.*)[.]py'$", path.read_text(), re.M) or [None]
        named = f'| `{path.stem}` | `{base}` |' if base else f'({path.name})'
        assert named in text or f'({path.name})' in text


def test_readme_is_short_enough_for_a_guest():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 180
