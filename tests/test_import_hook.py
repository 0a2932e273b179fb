"""mmseg before mmseg_more: what an installed package does at the start of Python."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from types import ModuleType

import pytest

from mmseg_more_import_hook import CONFIG_NAMES, OPERATIONS, ImportHook, install


@pytest.fixture
def found(monkeypatch):
    """What Python itself finds, by name; nothing else."""
    specs = {}
    monkeypatch.setattr(
        importlib.machinery.PathFinder, 'find_spec', lambda name, *args: specs.get(name)
    )
    return specs


def test_other_modules_are_left_to_python(found):
    found['json'] = importlib.machinery.ModuleSpec('json', None)
    assert ImportHook.find_spec('json') is None
    assert ImportHook.find_spec('mmcv') is None


def test_compiled_operations_are_used_where_they_are(found, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmseg', ModuleType('mmseg'))
    found[OPERATIONS] = importlib.machinery.ModuleSpec(OPERATIONS, None)
    assert ImportHook.find_spec(OPERATIONS) is found[OPERATIONS]


def test_placeholder_for_mmseg_alone(found, monkeypatch):
    monkeypatch.delitem(sys.modules, 'mmseg', raising=False)
    assert ImportHook.find_spec(OPERATIONS) is None  # as without this package
    monkeypatch.setitem(sys.modules, 'mmseg', ModuleType('mmseg'))
    module = importlib.util.module_from_spec(ImportHook.find_spec(OPERATIONS))
    module.__spec__.loader.exec_module(module)
    with pytest.raises(ImportError, match='pip uninstall mmcv-lite'):
        module.nms()


@pytest.mark.parametrize('line', ["MODULE2PACKAGE = {'mmseg': 'mmsegmentation'}", ''])
def test_name_of_the_configs(found, tmp_path, line):
    """Also with an MMEngine that has no such list."""
    (tmp_path / 'names.py').write_text(line)
    assert ImportHook.find_spec(CONFIG_NAMES) is None  # no MMEngine at all
    found[CONFIG_NAMES] = importlib.util.spec_from_file_location(
        CONFIG_NAMES, tmp_path / 'names.py'
    )
    module = importlib.util.module_from_spec(ImportHook.find_spec(CONFIG_NAMES))
    module.__spec__.loader.exec_module(module)
    assert ('mmseg_more' in getattr(module, 'MODULE2PACKAGE', {})) is bool(line)


@pytest.mark.parametrize(
    'name, expected', [('pytest', 'pytest'), ('no-such-distribution', 'mmseg')]
)
def test_mmseg_of_the_fork(found, tmp_path, name, expected):
    """Its MMEngine has the name of a distribution that is not there."""
    (tmp_path / 'names.py').write_text(f"MODULE2PACKAGE = {{'mmseg': '{name}'}}")
    found[CONFIG_NAMES] = importlib.util.spec_from_file_location(
        CONFIG_NAMES, tmp_path / 'names.py'
    )
    module = importlib.util.module_from_spec(ImportHook.find_spec(CONFIG_NAMES))
    module.__spec__.loader.exec_module(module)
    assert module.MODULE2PACKAGE['mmseg'] == expected


def test_installed_once_and_only_if_it_is_switched_on(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [importlib.machinery.PathFinder])
    monkeypatch.setenv('MMSEG_MORE_IMPORT_HOOK', '0')
    install()
    assert ImportHook not in sys.meta_path
    monkeypatch.delenv('MMSEG_MORE_IMPORT_HOOK')
    install()
    install()
    assert sys.meta_path == [ImportHook, importlib.machinery.PathFinder]


def start(folder, code, **env):
    """Python with the site-packages ``folder`` and the standard library, no others."""
    code = (
        f'import site, sys; before = set(sys.modules); site.addsitedir(sys.argv[1]); {code}'
    )
    result = subprocess.run(
        [sys.executable, '-S', '-c', code, str(folder)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and result.stderr == ''
    return result.stdout.strip()


@pytest.fixture
def site_packages(repo_root, tmp_path):
    for name in ('mmseg_more.pth', 'mmseg_more_import_hook.py'):
        (tmp_path / name).write_text((repo_root / name).read_text())
    return tmp_path


def test_start_of_python_imports_nothing_else(site_packages):
    # by which Python 3.13 reads .pth files itself
    code = (
        "own = {'encodings.utf_8_sig'}; "
        'print(*sorted(set(sys.modules) - before - own), sys.meta_path[0].__name__)'
    )
    assert start(site_packages, code) == 'mmseg_more_import_hook ImportHook'


def test_start_of_python_with_a_checkout_that_is_gone(site_packages):
    """An editable install, whose .pth file stays when the checkout is removed."""
    (site_packages / 'mmseg_more_import_hook.py').unlink()
    assert start(site_packages, "print('started')") == 'started'


@pytest.mark.slow
@pytest.mark.parametrize('switch, end', [('1', 'ready'), ('0', "module named 'mmcv._ext'")])
def test_mmseg_first(repo_root, switch, end):
    """Without the finder the first line fails, so it is what makes it work."""
    if 'mmseg_more' not in importlib.util.find_spec(OPERATIONS).origin:
        pytest.skip('mmcv has its compiled operations: nothing to stand for')
    code = (
        'import sys; sys.path.insert(0, sys.argv[1]); '
        'import mmseg_more_import_hook as hook; hook.install(); '
        "import mmseg.apis, mmcv.ops, mmseg_more; print('ready')"
    )
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, str(repo_root)],
        env=dict(os.environ, MMSEG_MORE_IMPORT_HOOK=switch),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert end in result.stdout.splitlines()[-1]
