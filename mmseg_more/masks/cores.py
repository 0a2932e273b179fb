"""How many cores a process may use."""

import os
from pathlib import Path

from .control_groups import CGROUP_MEMBERSHIP, CGROUP_ROOT, control_groups


def usable_cores() -> int:
    """Cores for this process, at least 1.

    Those that it may run on, no more than the CPU quota of its control group allows,
    divided among the processes that torchrun has started on this machine.
    """
    count: float = os.cpu_count() or 1
    if hasattr(os, 'sched_getaffinity'):
        count = len(os.sched_getaffinity(0))
    count = min(count, cgroup_cores())
    return max(1, int(count) // int(os.environ.get('LOCAL_WORLD_SIZE', 1)))


def cgroup_cores(root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP) -> float:
    """CPU time per second that the control groups of this process allow.

    The smallest quota of its group and the groups around it, of cgroup v2 (``cpu.max``)
    and v1 (``cpu.cfs_quota_us``); infinity without one.

    Args:
        root: As for :func:`control_groups`.
        membership: As for :func:`control_groups`.
    """
    groups = control_groups('cpu', root, membership)
    return min((_quota(group) for group in groups), default=float('inf'))


def _quota(group: Path) -> float:
    """Cores that one control group allows; infinity where it sets no bound."""
    try:
        if (group / 'cpu.max').exists():
            quota, period = (group / 'cpu.max').read_text().split()
        else:
            quota, period = (
                (group / f'cpu.cfs_{name}_us').read_text() for name in ('quota', 'period')
            )
        return (
            float('inf') if quota == 'max' or int(quota) < 0 else int(quota) / int(period)
        )
    except (OSError, ValueError):
        return float('inf')
