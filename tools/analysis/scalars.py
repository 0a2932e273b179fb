"""Reads what trainings have logged."""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, Union


def read_scalars(folder: Union[str, Path]) -> Iterator[Dict[str, Any]]:
    """Each line of a work folder's logs, ``*/vis_data/scalars.json``, oldest log first.

    A resumed training has several logs; none is read twice.

    Args:
        folder: Its work folder.

    Raises:
        ValueError: If a line is not JSON; names the file and the line.
    """
    for file in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        for number, line in enumerate(file.read_text(encoding='utf-8').splitlines(), 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f'{file}, line {number}: {error}') from error
