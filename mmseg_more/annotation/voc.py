"""A folder of PNGs of labels, as PASCAL VOC has them."""

from pathlib import Path
from typing import Iterator

import numpy as np

from ..datasets.image_labels import name_few
from ..files import read_label_png
from ..localization.pseudo_label import IGNORE_INDEX
from .corrected import CorrectedMask, ImportSettings

FOLDER = 'SegmentationClass'


def read_voc(path: Path, settings: ImportSettings) -> Iterator[CorrectedMask]:
    """The masks ``NAME.png`` of a folder, or of its ``SegmentationClass``.

    Labels are 0 for the background, ``k`` for the k-th class, 255 for what is not labelled.

    Args:
        path: The folder.
        settings: What is known beside it.

    Raises:
        FileNotFoundError: If there is no folder.
        ValueError: If a file is no PNG of labels, or has a label without a class.
    """
    if not path.is_dir():
        raise FileNotFoundError(f'the folder of masks {path} does not exist')
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    highest = len(settings.classes)
    for file in sorted(folder.rglob('*.png')):
        name = file.relative_to(folder).with_suffix('').as_posix()
        if any(part.startswith('.') for part in name.split('/')):
            continue
        labels = read_label_png(file.read_bytes(), str(file))
        wrong = [n for n in np.unique(labels).tolist() if highest < n != IGNORE_INDEX]
        if wrong:
            raise ValueError(
                f'{file} has label {wrong[0]}, the {highest} classes '
                f'({name_few(settings.classes)}) end at {highest}: are the classes right, '
                'and in the order of the labels?'
            )
        yield CorrectedMask(name, np.where(labels == 0, settings.uncovered, labels))
