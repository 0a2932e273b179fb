"""What a mask loses by a limit of pixels, and what brings it back to the full size best.

    python benchmarks/large_image_quality.py data/shapes [--images 4] [--enlarge 8]
        [--share 24] [--json FILE]

Images and masks of a data set in VOC's layout are enlarged (bicubic). The probabilities
are those of the true mask on a grid of 16 x 16, as of a network, and the CRF refines them:
at the full size; at a lower one of ``1 / share`` of the pixels, brought back by the nearest
pixel, interpolated, or by the guided filter, which is what masks do; and in tiles of so
many pixels of the full size. Rows of the JSON file, by way: ``truth``, the mean IoU with
the true masks; ``unlimited``, with those of the full size; ``seconds``, CPU time for an
image.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report
from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.files import read_rgb
from mmseg_more.masks import ClassProbabilities, CRFMask, dense_crf_mask
from mmseg_more.masks.large_images import full_size_mask, shrink_image, worked_size

_GRID = 16
_SURE = 0.9  # probability of the true class within it


class Example:
    """An enlarged image with its true mask, and what a network would say of it."""

    def __init__(self, folder: Path, name: str, enlarge: int) -> None:
        image = read_rgb(str(folder / f'JPEGImages/{name}.jpg'))
        truth = np.array(Image.open(folder / f'SegmentationClass/{name}.png'))
        self.size = image.shape[0] * enlarge, image.shape[1] * enlarge
        self.labels = np.array([label for label in np.unique(truth) if label != 255])
        shares = np.stack([truth == label for label in self.labels]).astype(np.float32)
        self.image = self._resized(image, self.size, cv2.INTER_CUBIC)
        large = [self._resized(one, self.size, cv2.INTER_CUBIC) for one in shares]
        self.truth = self.labels[np.argmax(large, axis=0)]
        coarse = [self._resized(one, (_GRID, _GRID), cv2.INTER_AREA) for one in shares]
        coarse = _SURE * np.stack(coarse) + (1 - _SURE) / len(self.labels)
        self._coarse = torch.from_numpy(coarse / coarse.sum(0))

    @staticmethod
    def _resized(values: np.ndarray, size: Sequence[int], how: int) -> np.ndarray:
        return cv2.resize(values, (size[1], size[0]), interpolation=how)

    def refine(self, size: Sequence[int]) -> CRFMask:
        """The CRF at a size."""
        probs = F.interpolate(self._coarse[None], tuple(size), mode='bilinear')[0]
        image = shrink_image(self.image, size)
        return dense_crf_mask(image, probs, self.labels, keep_probs=True)

    def in_tiles(self, pixels: int) -> np.ndarray:
        """The CRF of one tile of the full size after the other."""
        probs = F.interpolate(self._coarse[None], self.size, mode='bilinear')[0]
        mask, side = np.empty(self.size, np.uint8), int(pixels**0.5)
        for top in range(0, self.size[0], side):
            for left in range(0, self.size[1], side):
                tile = slice(top, top + side), slice(left, left + side)
                part = probs[:, tile[0], tile[1]].contiguous()
                image = np.ascontiguousarray(self.image[tile])
                mask[tile] = dense_crf_mask(image, part, self.labels).mask
        return mask

    def mean_iou(self, mask: np.ndarray, other: np.ndarray) -> float:
        """Mean IoU of two masks over the labels of the image."""
        ious = []
        for label in self.labels:
            one, two = mask == label, other == label
            ious.append((one & two).sum() / max((one | two).sum(), 1))
        return float(np.mean(ious))


def ways(example: Example, pixels: int) -> Dict[str, Callable[[], np.ndarray]]:
    """What makes a mask of the full size, by name."""
    low = worked_size(example.size, pixels)
    height, width = example.size

    def nearest() -> np.ndarray:
        mask = example.refine(low).mask
        return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)

    def brought_back(image: Optional[np.ndarray]) -> np.ndarray:
        probs = torch.from_numpy(example.refine(low).probs)
        refined = ClassProbabilities(probs, torch.from_numpy(example.labels))
        return full_size_mask(refined, example.size, image)[0]

    return dict(
        unlimited=lambda: example.refine(example.size).mask,
        nearest=nearest,
        interpolated=lambda: brought_back(None),
        guided=lambda: brought_back(example.image),
        tiles=lambda: example.in_tiles(pixels),
    )


def measure(examples: Sequence[Example], share: int) -> Dict[str, Dict[str, float]]:
    """Rows of the JSON file."""
    rows: Dict[str, List[List[float]]] = {}
    for example in examples:
        unlimited = None
        for name, make in ways(example, example.truth.size // share).items():
            begin = time.process_time()
            mask = make()
            seconds = time.process_time() - begin
            unlimited = mask if unlimited is None else unlimited
            ious = [example.mean_iou(mask, other) for other in (example.truth, unlimited)]
            rows.setdefault(name, []).append([*ious, seconds])
    return {
        name: dict(zip(('truth', 'unlimited', 'seconds'), np.mean(row, axis=0).tolist()))
        for name, row in rows.items()
    }


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('data', type=Path, help='folder of VOC or of the shapes')
    parser.add_argument('--images', type=int, default=4, help='of val.txt (default: 4)')
    parser.add_argument('--enlarge', type=int, default=8, help='factor (default: 8)')
    parser.add_argument('--share', type=int, default=24, help='of pixels (default: 24)')
    parser.add_argument('--json', help='JSON file to write')
    return parser.parse_args(argv)


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    names = (args.data / 'ImageSets/Segmentation/val.txt').read_text().split()
    examples = [Example(args.data, name, args.enlarge) for name in names[: args.images]]
    figures = measure(examples, args.share)
    header = ['', *figures['unlimited']]
    print(report.table(header, [[name, *row.values()] for name, row in figures.items()]))
    report.write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
