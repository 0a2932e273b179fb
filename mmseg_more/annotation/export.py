"""The files of a tool, written all or none."""

import os
from pathlib import Path
from typing import Callable, Dict, Iterator, NamedTuple, Tuple, Union

from ..files import write_bytes, write_folder
from ..masks.voc_export import pack
from .coco import coco_files
from .cvat import cvat_files
from .fiftyone import fiftyone_files
from .label_studio import label_studio_files
from .labelme import labelme_files
from .source import MaskSource
from .yolo import yolo_files


class ExportFormat(NamedTuple):
    """What a tool imports."""

    files: Callable[[MaskSource], Iterator[Tuple[str, bytes]]]
    """Paths and contents, one after the other."""
    suffix: str
    """``.zip``: they are packed; of another file: there is one; empty: a folder."""


FORMATS: Dict[str, ExportFormat] = dict(
    coco=ExportFormat(coco_files, '.json'),
    cvat=ExportFormat(cvat_files, '.zip'),
    labelstudio=ExportFormat(label_studio_files, ''),
    labelme=ExportFormat(labelme_files, ''),
    yolo=ExportFormat(yolo_files, ''),
    fiftyone=ExportFormat(fiftyone_files, ''),
)


def export_masks(source: MaskSource, tool: str, out: Union[str, Path]) -> None:
    """Write the masks for a tool.

    Args:
        source: The masks.
        tool: One of ``FORMATS``.
        out: The file, or the folder, which must not be there yet.

    Raises:
        FileExistsError: If ``out`` is there.
        ValueError: If ``tool`` is none of them, ``out`` has the wrong suffix, or a mask
            cannot be exported.
    """
    if tool not in FORMATS:
        raise ValueError(f'tool must be one of {", ".join(FORMATS)}, got {tool!r}')
    files, suffix = FORMATS[tool]
    out = Path(out)
    if suffix and out.suffix != suffix:
        raise ValueError(f'{out}: the file for {tool} ends in {suffix}')
    if os.path.lexists(out):
        raise FileExistsError(
            f'{out} exists, maybe with corrections in it: give another name, or delete it'
        )
    if suffix == '.zip':
        write_bytes(out, pack(dict(files(source)), suffix))
    elif suffix:
        ((_, content),) = files(source)
        write_bytes(out, content)
    else:
        write_folder(out, files(source))
