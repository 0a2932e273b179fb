"""Commands that are watched while they run."""

import json
import sys

import pytest

from benchmarks import soak
from benchmarks.common.process_tree import Holdings

MB = 2**20
# a child of its own; a hundred files more; memory that grows
LEAKS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
files = [open(sys.executable) for _ in range(100)]
held = []
for _ in range(30):
    held.append(b'x' * 2_000_000)
    time.sleep(.05)
child.kill()
"""


def figures(memory, files=(9, 9, 9), seconds=100):
    moments = (15, 50, 90)
    samples = [
        dict(time=moment + step, memory=held * MB, files=number, processes=2)
        for moment, held, number in zip(moments, memory, files)
        for step in (-1, 0, 1)
    ]
    return dict(command=['a'], seconds=seconds, samples=samples)


def test_all_processes_are_watched(tmp_path, capsys):
    out = tmp_path / 'leak.json'
    assert soak.main([str(out), '--every', '.02', '--', sys.executable, '-c', LEAKS]) == 1
    result = json.loads(out.read_text())
    held = soak.medians(result)
    assert held['middle'].processes == held['end'].processes == 2
    assert 100 < held['middle'].files < 120
    assert held['end'].memory - held['start'].memory > 20 * MB
    assert '| memory, MB |' in capsys.readouterr().out


@pytest.mark.parametrize(
    'memory, files, growth',
    [
        ((100, 101, 102), (9, 9, 9), dict(memory=0.02, files=0)),
        ((100, 103, 90), (9, 9, 9), dict(memory=0.03, files=0)),
        ((100, 80, 70), (10, 11, 10), dict(memory=-0.2, files=0.1)),
    ],
)
def test_growth(memory, files, growth):
    found = soak.growth(soak.medians(figures(memory, files)))
    assert found == pytest.approx(dict(growth, processes=0))


def test_a_flat_command(tmp_path, monkeypatch):
    """The exit status is that of the figures: up to 2 % are flat."""
    monkeypatch.setattr(soak, 'holdings', lambda pid: Holdings(50 * MB, 4, 1))
    arguments = [str(tmp_path / 'a.json'), '--every', '.01', '--', 'sleep', '1']
    assert soak.main(arguments) == 0


def test_a_moment_without_samples():
    with pytest.raises(ValueError, match='no sample at the middle: lower --every'):
        soak.medians(figures((1, 1, 1), seconds=130))


def test_a_command_that_fails(tmp_path, capsys):
    out = tmp_path / 'a.json'
    assert soak.main([str(out), '--', 'false']) == 1
    assert capsys.readouterr().err == 'error: the command ended with status 1\n'
    assert not out.exists()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['a.json'], 'give either --plot, or a command'),
        (['a.json', '--plot', 'a.png', '--', 'true'], 'give either --plot, or a command'),
        (['a.json', '--'], 'give one file to write, and a command'),
        (['a.json', 'b.json', '--', 'true'], 'give one file to write'),
        (['a.json', '--', 'no-such-command'], 'no-such-command'),
    ],
)
def test_mistakes(mistake_of, arguments, message):
    assert message in mistake_of(soak.main, arguments)


def test_plot(tmp_path):
    paths = [tmp_path / 'training.json', tmp_path / 'masks.json']
    for path in paths:
        path.write_text(json.dumps(figures((100, 101, 102))))
    picture = tmp_path / 'new' / 'soak.png'
    assert soak.main(['--plot', str(picture), *map(str, paths)]) == 0
    assert picture.read_bytes().startswith(b'\x89PNG')
