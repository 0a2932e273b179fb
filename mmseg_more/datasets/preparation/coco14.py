"""COCO 2014: a folder of validation masks, and lists of the images that belong to them."""

import json
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from torch.utils.data import Dataset

from ...files import palette_png, write_bytes
from ...masks.identity import file_sha256
from ...progress import in_processes
from ..coco14 import COCO14ImageLevelDataset
from ..image_level_dataset import voc_palette
from .coco_instances import InstancesImage
from .coco_masks import CROWD_MODES, draw_mask, import_mask_utils
from .image_state import ImageState, check_image

CLASSES = tuple(COCO14ImageLevelDataset.METAINFO['classes'][1:])
EXPECTED_IMAGES = dict(train2014=82783, val2014=40504)
EXPECTED_LABELLED = dict(train2014=82081, val2014=40137)
"""Images of any class."""
PART_SIZE = 5000
SETTINGS_FILE = 'settings.json'
_DRAWING_VERSION = 1  # raise it when the same file would give other masks


class DrawnImage(NamedTuple):
    """What became of one image."""

    name: str
    """Of its file, without suffix."""
    is_labelled: bool
    """Whether it has any annotation."""
    is_new: bool
    """Whether its mask was drawn now, rather than by an earlier run."""
    state: Optional[ImageState]
    """What its file is like; None where nobody looked."""


def open_mask_folder(folder: Path, instances: Path, crowd: str) -> None:
    """Begin a folder of masks, or make sure that this run may go on with it.

    ``settings.json`` in it says what its masks are drawn from and how.

    Raises:
        ValueError: If it holds other masks; says which. Nothing is changed then.
    """
    settings = dict(
        drawing_version=_DRAWING_VERSION,
        instances_sha256=file_sha256(str(instances)),
        crowd=crowd,
    )
    path = folder / SETTINGS_FILE
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding='utf-8'))
            differing = [key for key in settings if there.get(key) != settings[key]]
        except (ValueError, AttributeError):
            differing = ['a damaged file']
        if differing:
            raise ValueError(
                f'{folder} holds masks of other settings ({", ".join(differing)}): choose '
                'another folder, or delete this one'
            )
        return
    if folder.is_dir() and any(folder.glob('*.png')):
        raise ValueError(
            f'{folder} holds masks that were not drawn here: choose another folder'
        )
    write_bytes(path, (json.dumps(settings, indent=1) + '\n').encode())


def draw_masks(
    images: Sequence[InstancesImage],
    folder: Path,
    image_folder: Optional[Path] = None,
    crowd: str = CROWD_MODES[0],
    num_workers: int = 0,
) -> List[DrawnImage]:
    """Write ``NAME.png`` of every image that has none yet, and look at the image files.

    An image without annotations gets a mask of background. Masks are drawn from the
    annotations alone, also where the image file is gray, broken or missing.

    Args:
        images: What to draw.
        folder: Of the masks, see :func:`open_mask_folder`.
        image_folder: Of the image files, ``NAME.jpg``. None: nobody looks at them.
        crowd: As in :func:`~mmseg_more.datasets.preparation.coco_masks.draw_mask`.
        num_workers: Processes; 0: this one alone.

    Raises:
        ImportError: If pycocotools is missing; says what to install.
    """
    import_mask_utils()  # fails here rather than in each process
    drawing = _Drawing(images, folder, image_folder, crowd)
    return list(in_processes(drawing, num_workers, 'masks'))


class _Drawing(Dataset):
    """Item ``i`` draws one mask."""

    def __init__(
        self,
        images: Sequence[InstancesImage],
        folder: Path,
        image_folder: Optional[Path],
        crowd: str,
    ) -> None:
        self.images, self.folder, self.image_folder = images, folder, image_folder
        self.crowd = crowd
        # an empty file: the machine, not only the process, went down
        self.done = {path.stem for path in folder.glob('*.png') if path.stat().st_size}
        self.palette = voc_palette(256)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> DrawnImage:
        name, size, regions = self.images[index]
        is_new = name not in self.done
        if is_new:
            mask = draw_mask(size, regions, self.crowd)
            write_bytes(self.folder / f'{name}.png', palette_png(mask, self.palette))
        state = None
        if self.image_folder is not None:
            state = check_image(self.image_folder / f'{name}.jpg', size)
        return DrawnImage(name, bool(regions), is_new, state)


def usable_images(drawn: Sequence[DrawnImage]) -> List[str]:
    """Names of the images that show any class, and whose files are all right, in order."""
    return [
        image.name
        for image in drawn
        if image.is_labelled and (image.state is None or image.state.problem is None)
    ]


def spread_part(names: Sequence[str], size: int = PART_SIZE) -> List[str]:
    """So many of the names, at equal distances; all of them if there are not more."""
    if len(names) <= size:
        return list(names)
    return [names[index * len(names) // size] for index in range(size)]


def drawing_report(drawn: Sequence[DrawnImage], split: str) -> List[str]:
    """What there is to know of the images, a line each.

    Args:
        drawn: All images.
        split: ``train2014``, ``val2014``, or another name, of which nothing is expected.
    """
    new = sum(image.is_new for image in drawn)
    labelled = sum(image.is_labelled for image in drawn)
    lines = [
        f'{len(drawn)} masks, {new} of them drawn now'
        + _beside(len(drawn), EXPECTED_IMAGES.get(split)),
        f'{labelled} images of any class{_beside(labelled, EXPECTED_LABELLED.get(split))}; '
        f'{len(drawn) - labelled} without annotation: their masks are background, and '
        'lists leave them out',
    ]
    states = [image.state for image in drawn if image.state is not None]
    if states:
        gray = sum(state.is_gray for state in states)
        broken = sum(state.problem is not None for state in states)
        lines.append(
            f'{gray} gray images: kept, as loaders make three channels of one; {broken} '
            'broken, missing or of another size'
        )
    return lines


def _beside(count: int, expected: Optional[int]) -> str:
    if expected is None:
        return ''
    return ', as expected' if count == expected else f', {expected} expected'
