"""Masks of a folder beside the images that they were made of."""

from pathlib import Path
from typing import List, Sequence, Union

import numpy as np
import torch
from torch import Tensor

from ..datasets.image_labels import name_few
from ..files import read_label_png
from ..masks.folder import MANIFEST, MaskFolder, read_manifest
from ..masks.images import MaskImage
from .seen_image import MASK, PREDICTION, SeenImage


class ReportedMasks:
    """Masks that ``--pseudo-labels`` has written, with their confidence.

    Args:
        root: Folder with the masks and ``manifest.json``.
        classes: ``C`` names of the data set, background first.

    Raises:
        OSError: If there is no manifest.
        ValueError: If it is of other classes, or names no mask.
    """

    def __init__(self, root: Union[str, Path], classes: Sequence[str]) -> None:
        self.folder = MaskFolder(root)
        manifest = read_manifest(self.folder.root / MANIFEST)
        if list(manifest.get('classes', [])) != list(classes):
            raise ValueError(
                f'{root} holds masks of the classes {name_few(manifest.get("classes", []))}'
                f', the data set has {name_few(classes)}: take the config that the masks '
                'were made with'
            )
        self.entries = manifest['images']
        self.num_failed = len(manifest['failed'])
        self.settings = manifest['settings']

    def of_split(self, images: Sequence[MaskImage]) -> List[MaskImage]:
        """Those images of a split that have a mask.

        Raises:
            ValueError: If none has one.
        """
        made = [image for image in images if image.name in self.entries]
        if not made:
            raise ValueError(
                f'{self.folder.root} has no mask of the {len(images)} images of the split '
                f'({name_few([image.name for image in images])}): name the split that the '
                'masks were made of by --split'
            )
        return made

    def add_to(self, seen: SeenImage) -> SeenImage:
        """The same image with its mask, which is then the judged one.

        Raises:
            OSError: If the mask cannot be read.
            ValueError: If it has another size, or is no image of labels.
        """
        mask = _read_mask(self.folder.mask_path(seen.name), seen.image.shape[:2])
        labels = dict(seen.labels)
        prediction = {PREDICTION: labels.pop(PREDICTION)} if PREDICTION in labels else {}
        return seen._replace(
            labels={**labels, MASK: mask, **prediction},
            confidence=self.entries[seen.name].get('image_confidence'),
        )


def _read_mask(path: Path, size: Sequence[int]) -> Tensor:
    labels = read_label_png(path.read_bytes(), str(path))
    if labels.shape != tuple(size):
        raise ValueError(
            f'{path} has the shape {labels.shape}, its image {tuple(size)}: was the image '
            'changed after its mask was made?'
        )
    return torch.from_numpy(labels.astype(np.int64))
