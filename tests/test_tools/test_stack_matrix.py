"""``stack_matrix.sh``, with environments that only look like ones."""

import os
import shutil
import subprocess

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which('git') is None, reason='the script lists files by git'),
]

CELLS = '3.10.1 | 2.6.0 | 1.26.4 | 81.0.0 | mmengine 0.10.7'


@pytest.fixture
def run(repo_root, tmp_path):
    """Run the script with a folder; no Python of the user is found."""

    def run(*arguments):
        return subprocess.run(
            ['bash', str(repo_root / 'tools/analysis/stack_matrix.sh'), *arguments],
            env=dict(PATH=os.environ['PATH'], HOME=str(tmp_path), KEEP='1'),
            capture_output=True,
            text=True,
        )

    return run


def environment(folder, pytest_says):
    """A stack that is installed already, whose Python answers what the script asks."""
    (folder / 'bin').mkdir(parents=True)
    (folder / '.complete').touch()
    python = folder / 'bin' / 'python'
    python.write_text(
        f'#!/bin/sh\n[ "$1" = - ] && {{ echo "{CELLS}"; exit; }}\n'
        f'echo "$@" >"{folder}/arguments"\nls >"{folder}/files"\n{pytest_says}\n'
    )
    python.chmod(0o755)


def rows(folder):
    lines = (folder / 'matrix.md').read_text().splitlines()[2:]
    return [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines]


@pytest.mark.parametrize(
    'says, status', [('4 passed, 2 skipped in 1s', 0), ('1 failed, 3 passed in 1s', 1)]
)
def test_a_row_says_what_pytest_says(run, tmp_path, says, status):
    environment(tmp_path / 'floor-3.10', f'echo "a.py:1"; echo "{says}"; exit {status}')
    result = run(str(tmp_path), 'floor-3.10', '--', 'tests/test_compat.py', '-x')
    assert result.returncode == status, result.stderr
    (row,) = rows(tmp_path)
    assert row[:-1] == ['floor-3.10', *CELLS.split(' | '), says]
    arguments = (tmp_path / 'floor-3.10' / 'arguments').read_text()
    assert arguments.endswith('-m not slow tests/test_compat.py -x\n')
    # the copy of the package, in which the tests run
    assert 'setup.py' in (tmp_path / 'floor-3.10' / 'files').read_text().split()


def test_tests_that_do_not_come_to_an_end(run, tmp_path):
    environment(
        tmp_path / 'floor-3.10', 'echo "Illegal instruction | core dumped"; exit 132'
    )
    assert run(str(tmp_path), 'floor-3.10').returncode == 1
    (row,) = rows(tmp_path)
    assert row[-2] == 'stopped: Illegal instruction core dumped'


def test_rows_stay_in_the_table(run, tmp_path):
    """In the order of the script, one for each stack."""
    for name in ('onedl-3.12', 'floor-3.10'):
        environment(tmp_path / name, 'echo "1 passed in 1s"')
        assert run(str(tmp_path), name).returncode == 0
    assert run(str(tmp_path), 'floor-3.10').returncode == 0
    assert [row[0] for row in rows(tmp_path)] == ['floor-3.10', 'onedl-3.12']


def test_without_the_python(run, tmp_path, monkeypatch):
    programs = tmp_path / 'programs'
    programs.mkdir()
    for name in (
        'bash',
        'awk',
        'cut',
        'date',
        'cat',
        'dirname',
        'grep',
        'mkdir',
        'rm',
        'tail',
        'tr',
    ):
        (programs / name).symlink_to(shutil.which(name))
    monkeypatch.setenv('PATH', str(programs))
    result = run(str(tmp_path), 'floor-3.10')
    assert result.returncode == 1
    (row,) = rows(tmp_path)
    assert row[-2].startswith('not installed: [stacks] no Python 3.10 is on the PATH')


def test_an_installation_that_fails(run, tmp_path, monkeypatch):
    """The first error of pip stands in the row."""
    python = tmp_path / 'bin' / 'python3.10'
    python.parent.mkdir()
    # asked for a venv, it makes one whose pip fails when it installs the package
    python.write_text(
        '#!/bin/sh\n[ "$2" = venv ] || exit 0\nmkdir -p "$3/bin"\n'
        'cat >"$3/bin/python" <<END\n#!/bin/sh\n'
        'case "\\$*" in *torch*) echo "  ERROR: Failed building wheel for a"\n'
        'echo "error: failed-wheel-build"; exit 1;; esac\nEND\nchmod +x "$3/bin/python"\n'
    )
    python.chmod(0o755)
    monkeypatch.setenv('PATH', str(python.parent), prepend=os.pathsep)
    assert run(str(tmp_path / 'out'), 'floor-3.10').returncode == 1
    (row,) = rows(tmp_path / 'out')
    assert row[-2] == 'not installed: ERROR: Failed building wheel for a'
    # the next run installs it anew
    assert not (tmp_path / 'out' / 'floor-3.10' / '.complete').exists()


def test_an_unknown_stack(run, tmp_path):
    result = run(str(tmp_path), 'floor-2.7')
    assert result.returncode == 2
    assert 'no stack floor-2.7; there are floor-3.10 ' in result.stderr
    assert run().returncode == 2
