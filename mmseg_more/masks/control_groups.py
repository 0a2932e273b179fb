"""The control groups of this process (Linux), which bound what it may use."""

from pathlib import Path
from typing import Iterator

CGROUP_ROOT = Path('/sys/fs/cgroup')
CGROUP_MEMBERSHIP = Path('/proc/self/cgroup')


def control_groups(
    controller: str, root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP
) -> Iterator[Path]:
    """Folders of the groups that this process is in, and of the groups around them.

    Args:
        controller: 'cpu' or 'memory', for the groups of cgroup v1; those of v2 are for all.
        root: Where the groups are mounted.
        membership: Which groups the process belongs to. A path that is not mounted, as in
            a container, counts as far as it is. No group where there is no such file.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(':', 2)
        if not controllers:
            mounts = [root]
        elif controller in controllers.split(','):
            mounts = [root / controllers, root / controller]
        else:
            continue
        parts = [part for part in path.split('/') if part not in ('', '..')]
        for mount in mounts:
            for depth in range(len(parts) + 1):
                yield mount.joinpath(*parts[:depth])
