"""Corrected masks as a folder that a training reads, written all or none."""

import os
from pathlib import Path
from typing import (
    Callable,
    Collection,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Union,
)

from ..datasets.image_labels import name_few
from ..datasets.image_level_dataset import voc_palette
from ..datasets.mask_file import MASK_FILE, MaskFile, mask_file_content
from ..files import leads_below, palette_png, write_folder
from .coco import read_coco
from .corrected import BACKGROUND, CorrectedMask, ImportSettings
from .cvat import read_cvat
from .label_studio import read_label_studio
from .voc import read_voc

READERS: Dict[str, Callable[[Path, ImportSettings], Iterator[CorrectedMask]]] = dict(
    voc=read_voc, coco=read_coco, cvat=read_cvat, labelstudio=read_label_studio
)


class Imported(NamedTuple):
    """Images of which masks were read."""

    masks: List[str]
    """Names of those whose masks were written."""
    not_annotated: List[str]
    """Names of those that nobody has annotated."""


def import_masks(
    path: Union[str, Path],
    tool: str,
    out: Union[str, Path],
    settings: ImportSettings,
    labelled: Optional[Collection[str]] = None,
    listed: Optional[Collection[str]] = None,
) -> Imported:
    """Write the masks of a tool's file as a folder with its ``masks.json``.

    Args:
        path: The file, or the folder.
        tool: One of ``READERS``.
        out: The folder, which must not be there yet.
        settings: Classes, images, and what is done with pixels that nothing covers.
        labelled: Names of the images that have image labels. None: not checked.
        listed: Names of the images whose masks are wanted. None: all.

    Raises:
        FileExistsError: If ``out`` is there.
        FileNotFoundError: If ``path`` is not.
        ValueError: If ``tool`` is none of them, the file is malformed, names an image twice
            or not one that is wanted, or a mask does not fit its image.
    """
    if tool not in READERS:
        raise ValueError(f'tool must be one of {", ".join(READERS)}, got {tool!r}')
    path, out = Path(path), Path(out)
    if os.path.lexists(out):
        raise FileExistsError(f'{out} exists: give another name, or delete it')
    imported = Imported([], [])
    seen: Set[str] = set()

    def files() -> Iterator[Tuple[str, bytes]]:
        palette = voc_palette(1 + len(settings.classes))
        for mask in READERS[tool](path, settings):
            if listed is not None and mask.name not in listed:
                continue
            _check(mask, settings, seen, labelled, path)
            seen.add(mask.name)
            if mask.labels is None:
                imported.not_annotated.append(mask.name)
                continue
            imported.masks.append(mask.name)
            yield f'{mask.name}.png', palette_png(mask.labels, palette)
        missing = sorted({*(listed or ())} - seen)
        if missing:
            raise ValueError(
                f'{path} has no masks of {len(missing)} images of the list: '
                f'{name_few(missing)}'
            )
        if not imported.masks:
            raise ValueError(f'{path} holds no mask that somebody has annotated')
        masks = {name: f'{name}.png' for name in imported.masks}
        content = MaskFile([BACKGROUND, *settings.classes], masks)
        yield MASK_FILE, mask_file_content(content)

    write_folder(out, files())
    return imported


def _check(
    mask: CorrectedMask,
    settings: ImportSettings,
    seen: Collection[str],
    labelled: Optional[Collection[str]],
    path: Path,
) -> None:
    """Raise ValueError unless the mask fits an image, and is the only one of it."""
    name = mask.name
    if not leads_below(name) or '\0' in name or '\\' in name:
        raise ValueError(
            f'{path}: the image {name!r} does not lie below a folder of images'
        )
    if name in seen:
        raise ValueError(f'{path} has the image {name!r} twice: keep one of them')
    if labelled is not None and name not in labelled:
        raise ValueError(
            f'{path}: the image {name!r} has no image labels; the labels are of '
            f'{name_few(labelled)}'
        )
    settings.check_known(name)
    settings.check_size(mask)
