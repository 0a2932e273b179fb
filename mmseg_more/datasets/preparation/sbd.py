"""SBD, the masks of VOC's further images: MATLAB files to PNGs."""

from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
from PIL import Image
from scipy.io import loadmat
from torch.utils.data import Dataset

from ...files import palette_png, write_bytes
from ...progress import in_processes
from ..image_level_dataset import voc_palette

_MASKS_BELOW = ('cls', 'dataset/cls', 'benchmark_RELEASE/dataset/cls')
_NUM_LABELS = 21  # with the background


def find_sbd(folder: Path) -> Dict[str, Path]:
    """The class masks of SBD, ``cls/ID.mat``, by image ID.

    Args:
        folder: Where SBD was unpacked, or its ``dataset`` folder.

    Raises:
        FileNotFoundError: If there are none.
    """
    for below in _MASKS_BELOW:
        files = {path.stem: path for path in sorted((folder / below).glob('*.mat'))}
        if files:
            return files
    raise FileNotFoundError(
        f'{folder} holds no masks of SBD: looked for ID.mat in its folders '
        f'{", ".join(_MASKS_BELOW)}; give the folder that benchmark.tgz unpacks'
    )


def read_sbd_mask(path: Path) -> np.ndarray:
    """The class mask of a ``.mat`` file: ``(H, W)`` uint8, 0 background, 1..20.

    Raises:
        ValueError: If the file is another one.
    """
    try:
        labels = np.asarray(loadmat(path)['GTcls'][0, 0]['Segmentation'])
    except Exception as error:  # SciPy raises many kinds
        raise ValueError(
            f'{path} does not read as a mask of SBD: {type(error).__name__}: {error}; '
            'unpack it again'
        ) from error
    if labels.ndim != 2 or labels.dtype.kind not in 'iu' or labels.size == 0:
        raise ValueError(f'{path} holds {labels.dtype} {labels.shape}, expected a mask')
    if labels.min() < 0 or labels.max() >= _NUM_LABELS:
        raise ValueError(
            f'{path} holds labels from {labels.min()} to {labels.max()}, expected 0..20'
        )
    return labels.astype(np.uint8)


class _Conversion(Dataset):
    """Item ``i`` writes one mask."""

    def __init__(self, files: List[Path], images: Path, out: Path) -> None:
        self.files, self.images, self.out = files, images, out
        self.palette = voc_palette(_NUM_LABELS)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> None:
        path = self.files[index]
        mask = read_sbd_mask(path)
        image = self.images / f'{path.stem}.jpg'
        size = _image_size(image)
        if size is not None and mask.shape != size:
            raise ValueError(
                f'{path} has {mask.shape[0]}x{mask.shape[1]} pixels, its image {image} '
                f'{size[0]}x{size[1]}'
            )
        write_bytes(self.out / f'{path.stem}.png', palette_png(mask, self.palette))


def _image_size(path: Path) -> Optional[Tuple[int, int]]:
    """``(H, W)`` of an image file; None where it is missing or broken."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError:
        return None


def write_augmented_masks(
    files: Dict[str, Path], voc_root: Path, out: Path, num_workers: int
) -> int:
    """Fill ``SegmentationClassAug``: VOC's own masks where it has one, else SBD's.

    What is there already stays, so that an interrupted run goes on.

    Args:
        files: SBD's masks, see :func:`find_sbd`.
        voc_root: The folder with ``JPEGImages`` and ``SegmentationClass``.
        out: Where the PNGs go.
        num_workers: Processes; 0: this one alone.

    Returns:
        Number of masks in ``out`` then.

    Raises:
        ValueError: If a file of SBD is damaged, or does not fit its image.
    """
    own = {path.stem: path for path in (voc_root / 'SegmentationClass').glob('*.png')}
    # an empty file: the machine, not only the process, went down
    done = {path.stem for path in out.glob('*.png') if path.stat().st_size}
    for image_id in sorted(own.keys() - done):
        write_bytes(out / f'{image_id}.png', own[image_id].read_bytes())
    left = [files[image_id] for image_id in sorted(files.keys() - own.keys() - done)]
    if left:
        conversion = _Conversion(left, voc_root / 'JPEGImages', out)
        for _ in in_processes(conversion, num_workers, 'SBD masks'):
            pass
    return len(done | own.keys() | files.keys())
