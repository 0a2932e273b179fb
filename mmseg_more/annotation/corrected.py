"""A corrected mask as a labelling tool gives it back, and what is needed to read it."""

import math
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from ..datasets.image_labels import label_indices, name_few
from ..image_files import decode_image, find_images, without_suffix
from ..localization.pseudo_label import IGNORE_INDEX
from .source import IGNORED_NAME

BACKGROUND = 'background'
SPECIAL_LABELS = {BACKGROUND: 0, IGNORED_NAME: IGNORE_INDEX}
"""What tools may name beside the classes -> its label."""
MAX_PIXELS = 178_956_970
"""Of a mask: twice Pillow's limit, from which on it refuses a file as well."""


class CorrectedMask(NamedTuple):
    """The mask of one image."""

    name: str
    """The image's path as the tool names it, without suffix."""
    labels: Optional[np.ndarray]
    """``(H, W)`` uint8: 0 background, ``k`` the k-th class, 255 not labelled. None: nobody
    has annotated the image."""


class ImportSettings:
    """What a reader knows beside the file of the tool.

    Args:
        classes: Names of the K classes, without background.
        uncovered: Label of pixels that nothing covers: 0 or 255.
        prefix: What stands before an image's path where the tool names it. None: what is
            known of the tool.
        images: Folder of the images. None: neither names nor sizes are checked.

    Raises:
        FileNotFoundError: If the folder of the images does not exist.
        ValueError: If a class is called as the background, or as pixels that are ignored.
    """

    def __init__(
        self,
        classes: Sequence[str],
        uncovered: int = 0,
        prefix: Optional[str] = None,
        images: Union[str, Path, None] = None,
    ) -> None:
        special = [name for name in classes if name in SPECIAL_LABELS]
        if special or len(set(classes)) < len(classes) or not classes:
            raise ValueError(
                f'classes are names without {BACKGROUND!r} and {IGNORED_NAME!r}, each '
                f'once; got {name_few(classes, 10)}'
            )
        self.classes = list(classes)
        self.uncovered = uncovered
        self.prefix = prefix
        self.images: Optional[Dict[str, Path]] = None
        if images is not None:
            folder = Path(images)
            if not folder.is_dir():
                raise FileNotFoundError(f'the folder of images {folder} does not exist')
            paths = find_images(str(folder)).images
            self.images = {without_suffix(path): folder / path for path in paths}
        self._sizes: Dict[str, Tuple[int, int]] = {}

    def label(self, name: str, where: str) -> int:
        """Label of a class: 0 for the background, 255 for what is ignored.

        Raises:
            ValueError: If there is no such class; begins with ``where``.
        """
        if name in SPECIAL_LABELS:
            return SPECIAL_LABELS[name]
        return 1 + label_indices([name], self.classes, (), where)[0]

    def image_name(self, path: str) -> str:
        """Name of an image from its path in the file of a tool."""
        return without_suffix(path.removeprefix(self.prefix or ''))

    def image_size(self, name: str) -> Tuple[int, int]:
        """``(H, W)`` of an image, as a viewer shows it.

        Raises:
            ValueError: If there is no folder of images, or the file does not decode.
        """
        if self.images is None:
            raise ValueError(
                f'the size of the image {name!r} is not in the file: give the folder of '
                'the images (--images)'
            )
        self.check_known(name)
        if name not in self._sizes:
            image = decode_image(self.images[name].read_bytes())
            if image is None:
                raise ValueError(f'{self.images[name]} does not decode as an image')
            self._sizes[name] = (image.shape[0], image.shape[1])
        return self._sizes[name]

    def check_known(self, name: str) -> None:
        """Raise ValueError if there are images, but none of that name."""
        if self.images is not None and name not in self.images:
            raise ValueError(
                f'the image {name!r} is not among the {len(self.images)} in the folder of '
                'the images: correct --images, or take away what stands before it by '
                '--prefix'
            )

    def check_size(self, mask: CorrectedMask) -> None:
        """Raise ValueError if there are images, and that of the mask has another size."""
        if self.images is None or mask.labels is None:
            return
        size = self.image_size(mask.name)
        if mask.labels.shape != size:
            height, width = mask.labels.shape
            raise ValueError(
                f'the mask of {mask.name!r} has {height}x{width} pixels, its image '
                f'{size[0]}x{size[1]}: annotate the image that the training reads'
            )


def check_number_of_pixels(size: Tuple[int, int], where: str) -> None:
    """Raise ValueError if a mask of ``(H, W)`` pixels is empty, or too large to be one."""
    if min(size) < 1 or math.prod(size) > MAX_PIXELS:
        raise ValueError(
            f'{where}: a mask of {size[0]}x{size[1]} pixels; at most {MAX_PIXELS} are read'
        )
