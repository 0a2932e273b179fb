"""A folder of masks as a labelling tool needs it: regions with names and scores."""

import math
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..datasets.image_labels import name_few
from ..files import read_label_png
from ..image_files import find_images, without_suffix
from ..localization.pseudo_label import IGNORE_INDEX
from ..masks import MANIFEST, MaskFolder, read_manifest
from ..masks.folder import fingerprint

IGNORED_NAME = 'ignored'
"""Class under which tools show pixels of which a mask says nothing."""


class Region(NamedTuple):
    """All pixels of one class in one image: masks do not tell its objects apart."""

    label: int
    """As in the mask: ``k`` for the k-th class, 255 for ignored."""
    name: str
    """Of the class."""
    pixels: np.ndarray
    """Boolean ``(H, W)``."""
    score: Optional[float]
    """Mean probability of the pixels, in [0, 1]; None where the manifest has none."""


class ScoredMask(NamedTuple):
    """The mask of one image."""

    name: str
    """In the manifest: the image's path without suffix."""
    image: str
    """Path of the image file below the folder of the images."""
    labels: np.ndarray
    """``(H, W)`` uint8: 0 background, ``k`` the k-th class, 255 ignored."""
    regions: List[Region]
    """Of the classes that are there; none for the background."""
    score: Optional[float]
    """Mean IoU that the mask is expected to have; None where the manifest has none."""


class MaskSource:
    """The masks of a folder, those of the least certain images first.

    Certainty is ``image_confidence`` of the manifest. Images without one come last, in the
    order of their names. A mask is read when its turn comes.

    Args:
        folder: Folder of masks with its ``manifest.json``.
        images: Folder of the images, by which their files get their suffixes. None: each
            ends in ``.jpg``.
        prefix: What stands before an image's path in the files of a tool that names
            images. None: what the tool expects.

    Raises:
        FileNotFoundError: When built, if there is no manifest, or an image is missing.
        ValueError: When built, if the manifest names no masks; on reading, if a mask is not
            the file that was written, or has a label without a class.
    """

    def __init__(
        self,
        folder: Union[str, Path],
        images: Union[str, Path, None] = None,
        prefix: Optional[str] = None,
    ) -> None:
        self.folder = MaskFolder(folder)
        path = self.folder.root / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f'{folder} holds no {MANIFEST}: give a folder that `python tools/test.py '
                'CONFIG CHECKPOINT --pseudo-labels DIR` wrote'
            )
        manifest = read_manifest(path)
        self.entries: Dict[str, Dict[str, Any]] = manifest['images']
        self.classes: List[str] = _checked_classes(manifest.get('classes'), path)
        self.palette: List[List[int]] = manifest.get('palette') or []
        if not self.entries:
            raise ValueError(f'{path} names no finished mask: write some first')
        self.images = None if images is None else Path(images)
        self.prefix = prefix
        self._files = self._find_images()
        self.with_ignored: List[str] = []
        """Names of the masks, of those read so far, that have ignored pixels."""

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[ScoredMask]:
        self.with_ignored.clear()
        for name in self.names():
            yield self._read(name)

    def names(self) -> List[str]:
        """Names of the images, the least certain first."""
        scores = {
            name: entry.get('image_confidence') for name, entry in self.entries.items()
        }

        def rank(name: str) -> Tuple[float, str]:
            score = scores[name]
            return (math.inf if score is None else score, name)

        return sorted(scores, key=rank)

    def named_labels(self) -> Dict[int, str]:
        """Names by label, without the background; 255 if a mask read so far has it."""
        names = dict(enumerate(self.classes))
        del names[0]
        if self.with_ignored:
            names[IGNORE_INDEX] = IGNORED_NAME
        return names

    def _find_images(self) -> Dict[str, str]:
        if self.images is None:
            return {name: f'{name}.jpg' for name in self.entries}
        if not self.images.is_dir():
            raise FileNotFoundError(f'the folder of images {self.images} does not exist')
        files = {
            without_suffix(path): path for path in find_images(str(self.images)).images
        }
        missing = sorted(set(self.entries) - set(files))
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(self.entries)} images of {self.folder.root} are '
                f'not in {self.images}: {name_few(missing)}'
            )
        return {name: files[name] for name in self.entries}

    def _read(self, name: str) -> ScoredMask:
        entry, path = self.entries[name], self.folder.mask_path(name)
        content = _unchanged(path, entry.get('files', {}).get('mask'))
        labels = read_label_png(content, str(path))
        if list(labels.shape) != list(entry['size']):
            raise ValueError(
                f'{path} is no mask of 8 bits and {entry["size"][0]}x{entry["size"][1]} '
                f'pixels, which {MANIFEST} says it is'
            )
        present = [int(label) for label in np.unique(labels) if label]
        unknown = [label for label in present if len(self.classes) <= label != IGNORE_INDEX]
        if unknown:
            raise ValueError(
                f'{path} has label {unknown[0]}, the {len(self.classes)} classes of '
                f'{MANIFEST} end at {len(self.classes) - 1}'
            )
        if IGNORE_INDEX in present:
            self.with_ignored.append(name)
        scores = entry.get('confidence', {})
        regions = []
        for label in present:
            label_name = IGNORED_NAME if label == IGNORE_INDEX else self.classes[label]
            regions.append(
                Region(label, label_name, labels == label, scores.get(label_name))
            )
        score = entry.get('image_confidence')
        return ScoredMask(name, self._files[name], labels, regions, score)


def _checked_classes(classes: Any, path: Path) -> List[str]:
    if not isinstance(classes, list) or len(classes) < 2:
        raise ValueError(f'{path} has no `classes`: it is not of a folder of masks')
    if IGNORED_NAME in classes:
        raise ValueError(
            f'{path} has a class {IGNORED_NAME!r}, the name under which pixels of label '
            f'{IGNORE_INDEX} are exported: rename the class'
        )
    return classes


def _unchanged(path: Path, noted: Optional[Dict[str, Any]]) -> bytes:
    """Content of a mask, which must be what the manifest has noted of it, if anything."""
    if not path.is_file():
        raise FileNotFoundError(
            f'the mask {path} is missing: make it again by the same tools/test.py command'
        )
    content = path.read_bytes()
    if noted and noted != fingerprint(content):
        raise ValueError(
            f'{path} has changed since it was made, so that its scores are of another '
            'mask: make it again by the same tools/test.py command'
        )
    return content
