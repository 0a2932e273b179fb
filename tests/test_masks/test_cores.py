"""How many cores a process may use: affinity, control groups, launcher."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseg_more.masks import cores as cores_module
from mmseg_more.masks.cores import cgroup_cores, usable_cores


def groups(folder, membership, **files):
    """Fake control groups; ``files`` by path, '/' written as '__'."""
    for path, text in files.items():
        file = folder / 'cgroup' / path.replace('__', '/').replace('_DOT_', '.')
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / 'membership').write_text(membership)
    return folder / 'cgroup', folder / 'membership'


@pytest.mark.parametrize(
    'membership, files, cores',
    [
        ('0::/\n', dict(cpu_DOT_max='150000 100000\n'), 1.5),
        ('0::/\n', dict(cpu_DOT_max='max 100000\n'), float('inf')),
        # nested groups: the smallest quota counts
        ('0::/a/b\n', dict(a__b__cpu_DOT_max='max 100000', a__cpu_DOT_max='300 100'), 3),
        ('0::/a/b\n', dict(a__b__cpu_DOT_max='50 100', a__cpu_DOT_max='300 100'), 0.5),
        # another group's does not
        ('0::/a\n', dict(b__cpu_DOT_max='50 100'), float('inf')),
        # a container sees its own group alone
        ('0::/../docker/x\n', dict(cpu_DOT_max='200000 100000'), 2),
        # version 1
        (
            '4:memory:/m\n3:cpu,cpuacct:/a\n',
            {
                'cpu,cpuacct__a__cpu_DOT_cfs_quota_us': '250000\n',
                'cpu,cpuacct__a__cpu_DOT_cfs_period_us': '100000\n',
            },
            2.5,
        ),
        (
            '3:cpu:/a\n0::/\n',
            dict(cpu__cpu_DOT_cfs_quota_us='-1\n', cpu__cpu_DOT_cfs_period_us='100000\n'),
            float('inf'),
        ),
        ('0::/\n', dict(cpu_DOT_max='nonsense'), float('inf')),
        ('', {}, float('inf')),
    ],
)
def test_quota_of_the_control_group(tmp_path, membership, files, cores):
    assert cgroup_cores(*groups(tmp_path, membership, **files)) == cores


def test_without_control_groups(tmp_path):
    assert cgroup_cores(tmp_path, tmp_path / 'missing') == float('inf')


@pytest.mark.parametrize(
    'affinity, quota, world, cores',
    [
        (16, float('inf'), None, 16),
        (16, 1.5, None, 1),
        (16, 0.5, None, 1),
        (16, 6.5, None, 6),
        (4, 6.5, None, 4),
        (16, 8.0, '4', 2),
        (16, float('inf'), '4', 4),
        (2, float('inf'), '4', 1),
    ],
)
def test_usable_cores(monkeypatch, affinity, quota, world, cores):
    monkeypatch.setattr(
        os, 'sched_getaffinity', lambda _: set(range(affinity)), raising=False
    )
    monkeypatch.setattr(cores_module, 'cgroup_cores', lambda: quota)
    monkeypatch.delenv('LOCAL_WORLD_SIZE', raising=False)
    if world is not None:
        monkeypatch.setenv('LOCAL_WORLD_SIZE', world)
    assert usable_cores() == cores


@given(st.integers(1, 64), st.floats(0.1, 64), st.integers(1, 16))
def test_processes_of_a_machine_never_have_more_workers_than_cores(cores, quota, world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, 'sched_getaffinity', lambda _: set(range(cores)), raising=False)
        patch.setattr(cores_module, 'cgroup_cores', lambda: quota)
        patch.setenv('LOCAL_WORLD_SIZE', str(world))
        count = usable_cores()
    assert count == max(1, int(min(cores, quota)) // world)
    assert count == 1 or count * world <= min(cores, quota)
