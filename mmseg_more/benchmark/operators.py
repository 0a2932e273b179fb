"""The operators of a training step, by PyTorch's profiler."""

import tempfile
from pathlib import Path
from typing import Callable, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from ..files import write_bytes
from .gemm import synchronize

_WAITS = ('cudaStreamSynchronize', 'cudaEventSynchronize', 'cudaDeviceSynchronize')


class Profile(NamedTuple):
    """What the profiler saw."""

    table: str
    """The operators that took longest by themselves, on the device."""
    waits: str
    """How often the host waits for a GPU, by call; one of cudaDeviceSynchronize is the
    end of the measurement."""


def profile_step(
    step: Callable[[], None], device: torch.device, path: str, rows: int = 15
) -> Profile:
    """Profile one step and write its trace.

    Args:
        step: Runs it.
        device: Where.
        path: File for the trace, in Chrome's format (about:tracing, Perfetto).
        rows: Operators in the table.

    Raises:
        OSError: If the file cannot be written.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == 'cuda':
        activities.append(ProfilerActivity.CUDA)
    synchronize(device)
    with profile(activities=activities) as profiler:
        step()
        synchronize(device)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(trace))
        write_bytes(path, trace.read_bytes())
    averages = profiler.key_averages()
    count = {average.key: average.count for average in averages}
    table = averages.table(
        sort_by=f'self_{device.type}_time_total', row_limit=rows, max_name_column_width=50
    )
    return Profile(
        table,
        ', '.join(f'{name} {count[name]} x' for name in _WAITS if name in count) or 'none',
    )
