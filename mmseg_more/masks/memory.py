"""Memory that the mask of an image needs, before it is taken."""

from pathlib import Path
from typing import List, Optional, Sequence

from .control_groups import CGROUP_MEMBERSHIP, CGROUP_ROOT, control_groups

MEMINFO = Path('/proc/meminfo')
# Per pixel. For 700 x 1000 pixels of a photograph's texture benchmarks/crf.py finds 960 and
# 17 for each channel; for noise, the worst case, 2280 with 3 channels.
_CRF_BYTES, _CRF_CHANNEL_BYTES = 1500, 30
# float32, in four copies: sum of the scales, one scale, probabilities, labels
_MAP_BYTES = 4 * 4
_GB = 1e9


def crf_bytes(size: Sequence[int], channels: int) -> int:
    """What the dense CRF of a photograph takes, ``(1500 + 30 C) H W`` bytes.

    Args:
        size: ``(H, W)`` that it works at.
        channels: ``C``, background included.
    """
    return (_CRF_BYTES + _CRF_CHANNEL_BYTES * channels) * size[0] * size[1]


def map_bytes(size: Sequence[int], channels: int) -> int:
    """What maps or logits and their probabilities take, ``16 C H W`` bytes.

    Args:
        size: ``(H, W)`` that they are made at.
        channels: ``C``, background included.
    """
    return _MAP_BYTES * channels * size[0] * size[1]


def free_bytes(
    meminfo: Path = MEMINFO, root: Path = CGROUP_ROOT, membership: Path = CGROUP_MEMBERSHIP
) -> Optional[int]:
    """Memory that this process can still have; None where the system does not tell.

    What Linux calls available, and no more than the limits of the control groups leave.

    Args:
        meminfo: Where the system tells it.
        root: As for :func:`control_groups`.
        membership: As for :func:`control_groups`.
    """
    free: List[int] = []
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith('MemAvailable:'):
                free.append(1024 * int(line.split()[1]))
    except (OSError, ValueError):
        pass
    for group in control_groups('memory', root, membership):
        left = _left_in_group(group)
        if left is not None:
            free.append(left)
    return min(free, default=None)


def memory_error(need: int, free: Optional[int], size: Sequence[int]) -> Optional[str]:
    """Why an image is not begun with; None if it may be.

    Args:
        need: Bytes, as :func:`crf_bytes` or :func:`map_bytes` estimates them.
        free: Of :func:`free_bytes`.
        size: ``(H, W)`` that the image is worked on at.
    """
    if free is None or need <= free:
        return None
    return (
        f'{size[0]}x{size[1]} pixels would need about {need / _GB:.2f} GB of memory, and '
        f'{max(free, 0) / _GB:.2f} GB are free: lower max_pixels to '
        f'{max(max(free, 0) * size[0] * size[1] // need, 1)}, or make room'
    )


def _left_in_group(group: Path) -> Optional[int]:
    """What the limit of one control group leaves; None where it has none.

    The files that it has read count as used, but the system gives their memory back.
    """
    for limit, usage in (
        ('memory.max', 'memory.current'),
        ('memory.limit_in_bytes', 'memory.usage_in_bytes'),
    ):
        try:
            left = int((group / limit).read_text()) - int((group / usage).read_text())
            statistics = dict(
                line.split() for line in (group / 'memory.stat').read_text().splitlines()
            )
        except (OSError, ValueError):  # no such file, or 'max'
            continue
        inactive = statistics.get('total_inactive_file', statistics.get('inactive_file', 0))
        return left + int(inactive)
    return None
