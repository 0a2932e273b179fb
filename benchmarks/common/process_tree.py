"""What a process and all that it has started hold (Linux: read from ``/proc``)."""

import os
from pathlib import Path
from typing import Dict, List, NamedTuple

PROC = Path('/proc')


class Holdings(NamedTuple):
    """What several processes hold at a moment."""

    memory: int
    """Bytes in memory; a page that processes share is counted once."""
    files: int
    """Open files, pipes and sockets."""
    processes: int


def holdings(pid: int) -> Holdings:
    """Of a process and its descendants; 0 where it has ended.

    Args:
        pid: The process.
    """
    memory = files = processes = 0
    for one in tree(pid):
        try:
            memory += proportional_bytes(str(one))
            files += len(os.listdir(PROC / str(one) / 'fd'))
        except OSError:
            continue  # it has just ended
        processes += 1
    return Holdings(memory, files, processes)


def tree(pid: int) -> List[int]:
    """A process and its descendants that run."""
    children: Dict[int, List[int]] = {}
    for path in PROC.glob('[0-9]*/stat'):
        try:
            text = path.read_text()
        except OSError:
            continue
        parent = int(text.rpartition(')')[2].split()[1])  # a name may hold anything
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid] if (PROC / str(pid)).exists() else []
    for one in found:
        found += children.get(one, [])
    return found


def proportional_bytes(pid: str) -> int:
    """Resident memory, each page divided by the number of processes that share it.

    Args:
        pid: A process, or ``self``.

    Raises:
        OSError: If there is no such process, or the kernel does not tell.
    """
    with open(PROC / pid / 'smaps_rollup', encoding='ascii') as file:
        for line in file:
            if line.startswith('Pss:'):
                return 1024 * int(line.split()[1])
    raise OSError(f'no Pss of process {pid}')
