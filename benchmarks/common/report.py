"""Figures of the benchmarks as JSON and as tables."""

import json
import platform
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, Optional, Sequence

import torch
from mmengine.logging import MMLogger
from prettytable import PrettyTable

from mmseg_more.files import write_bytes


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block the logger reports warnings alone, not each initialised weight."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)


def machine(device: torch.device) -> Dict[str, Any]:
    """What ran the benchmark."""
    name = (
        torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()
    )
    return dict(
        device=str(device),
        device_name=name,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


def write_json(path: Optional[str], figures: Dict[str, Any]) -> None:
    """Write ``figures``, whole or not at all; nothing if there is no ``path``."""
    if path:
        write_bytes(path, (json.dumps(figures, indent=2) + '\n').encode())


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Table, first column to the left and figures to the right."""
    result = PrettyTable(list(header))
    result.align = 'r'
    result.align[header[0]] = 'l'
    result.add_rows([[_text(value) for value in row] for row in rows])
    return result.get_string()


def _text(value: Any) -> str:
    if value is None:
        return '-'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
