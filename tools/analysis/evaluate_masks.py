"""Compare a folder of masks with the truth: mIoU and the figures of each class.

    python tools/analysis/evaluate_masks.py work_dirs/masks data/VOC2012/SegmentationClass \
        --ann-file data/VOC2012/ImageSets/Segmentation/train.txt

Both folders hold PNGs of the same names whose pixels are labels: 0 background, k the k-th
class, in the truth 255 ignored. The classes are those of the masks' manifest.json, or
those of --classes or --num-classes.
"""

import argparse
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np
import torch
from PIL import Image
from prettytable import PrettyTable

from mmseg_more.datasets.image_labels import name_few
from mmseg_more.datasets.preparation.split_lists import read_split
from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.evaluation.functional import (
    SegmentationFigures,
    confusion_matrix,
    segmentation_figures,
)
from mmseg_more.evaluation.report import write_json
from mmseg_more.image_files import without_suffix
from mmseg_more.masks import CONFIDENCE, MANIFEST, read_manifest
from mmseg_more.progress import with_progress

IGNORE_INDEX = 255
FIGURES = ('iou', 'precision', 'recall')


def mask_names(masks: Path, ann_file: Optional[str]) -> List[str]:
    """Names of the masks to compare, without suffix.

    Raises:
        ValueError, FileNotFoundError: If there are none, or masks are missing.
    """
    if not masks.is_dir():
        raise FileNotFoundError(f'the folder of masks {masks} does not exist')
    present = {
        path.relative_to(masks).with_suffix('').as_posix() for path in masks.rglob('*.png')
    }
    if (masks / MANIFEST).is_file():
        settings = read_manifest(masks / MANIFEST)['settings']
        if settings.get('confidence_maps'):  # these are no masks
            present = {name for name in present if not name.startswith(f'{CONFIDENCE}/')}
    if ann_file is None:
        names = sorted(present)
    else:
        lines = read_split(Path(ann_file))
        names = [line if line in present else without_suffix(line) for line in lines]
        missing = [name for name in names if name not in present]
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(names)} images of {ann_file} have no mask in '
                f'{masks}: {name_few(missing)}'
            )
    if not names:
        raise ValueError(f'nothing to compare: {ann_file or masks} names no mask')
    return names


def read_labels(path: Path, num_labels: int, ignore: bool) -> np.ndarray:
    """Labels ``(H, W)`` of a PNG.

    Raises:
        ValueError, FileNotFoundError: If there is none, or it holds other values.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    try:
        image = Image.open(path)
        image.load()
    except OSError as error:
        raise ValueError(f'{path} does not read as a PNG: {error}') from error
    if image.mode not in ('P', 'L'):
        raise ValueError(f'{path} is a picture ({image.mode}), not a PNG of labels')
    labels = np.asarray(image)
    values = np.unique(labels)
    wrong = values[(values >= num_labels) & ~(ignore & (values == IGNORE_INDEX))]
    if wrong.size:
        raise ValueError(
            f'{path} holds the labels {wrong.tolist()}, expected 0..{num_labels - 1}'
            f'{" and 255" if ignore else ""}: are --classes or --num-classes right?'
        )
    return labels


def compare(
    masks: Path, truth: Path, names: Sequence[str], num_labels: int
) -> SegmentationFigures:
    """Figures over all pixels of all images.

    Raises:
        ValueError, FileNotFoundError: If files are missing or do not fit.
    """
    confusion = torch.zeros(num_labels, num_labels, dtype=torch.int64)
    for name in with_progress(names, 'comparing', transient=True):
        pair = (masks / f'{name}.png', truth / f'{name}.png')
        mask, target = (
            read_labels(path, num_labels, ignore)
            for path, ignore in zip(pair, (False, True))
        )
        if mask.shape != target.shape:
            raise ValueError(
                f'{pair[0]} has {mask.shape[0]}x{mask.shape[1]} pixels, '
                f'{pair[1]} {target.shape[0]}x{target.shape[1]}'
            )
        confusion += confusion_matrix(
            torch.from_numpy(mask.copy()),
            torch.from_numpy(target.copy()),
            num_labels,
            IGNORE_INDEX,
        )
    return segmentation_figures(confusion)


def format_figures(figures: SegmentationFigures, classes: Sequence[str]) -> str:
    """A row per class that occurs in the truth, and the means, in percent."""
    table = PrettyTable(['class', 'IoU', 'precision', 'recall'])
    table.align = 'r'
    table.align['class'] = 'l'

    def text(value: float) -> str:
        return '-' if np.isnan(value) else f'{100 * value:.2f}'

    for index, name in enumerate(classes):
        occurs = bool(figures.occurs[index])
        table.add_row(
            [
                name,
                *(
                    text(getattr(figures, key)[index].item() if occurs else np.nan)
                    for key in FIGURES
                ),
            ],
            divider=index == len(classes) - 1,
        )
    table.add_row(['mean', *(text(figures.mean(key)) for key in FIGURES)])
    return table.get_string()


def class_names(args: argparse.Namespace) -> List[str]:
    """All labels by name, background first.

    Raises:
        ValueError: If nothing says what they are.
    """
    if args.classes:
        return ['background', *args.classes]
    if args.num_classes:
        return ['background', *map(str, range(1, args.num_classes + 1))]
    manifest = Path(args.masks, MANIFEST)
    if not manifest.is_file():
        raise ValueError(f'{args.masks} has no {MANIFEST}: give --classes or --num-classes')
    return read_manifest(manifest)['classes']


def parse_args() -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('masks', help='folder of the masks to judge')
    parser.add_argument('truth', help='folder of the true masks')
    parser.add_argument(
        '--ann-file',
        help='file with an image per line, with or without suffix; by default every mask '
        'is compared',
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--classes', nargs='+', help='names, without background')
    group.add_argument('--num-classes', type=int, help='number, without background')
    parser.add_argument('--json', help='file to write the figures to')
    args = parser.parse_args()
    if args.num_classes is not None and not 1 <= args.num_classes <= 254:
        parser.error(f'--num-classes must be 1..254, got {args.num_classes}')
    args.names = mask_names(Path(args.masks), args.ann_file)
    args.class_names = class_names(args)
    args.figures = compare(
        Path(args.masks), Path(args.truth), args.names, len(args.class_names)
    )
    return args


@command
def main() -> None:
    args = parse_args()
    figures = args.figures
    print(format_figures(figures, args.class_names))
    print(
        f'{len(args.names)} images, mIoU {100 * figures.mean("iou"):.2f} over the '
        f'{int(figures.occurs.sum())} labels that occur in the truth'
    )
    if args.json:
        write_json(
            args.json,
            {
                'images': len(args.names),
                'mIoU': 100 * figures.mean('iou'),
                **{
                    f'IoU/{name}': 100 * iou
                    for name, iou in zip(args.class_names, figures.iou.tolist())
                },
            },
        )


if __name__ == '__main__':
    main()
