"""Reads what trainings have logged."""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, Union


def read_scalars(folder: Union[str, Path]) -> Iterator[Dict[str, Any]]:
    """Each line of a work folder's logs, ``*/vis_data/scalars.json``, oldest log first.

    A resumed training has several logs; none is read twice.

    Args:
        folder: Its work folder.
    """
    for file in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        yield from map(json.loads, file.read_text(encoding='utf-8').splitlines())
