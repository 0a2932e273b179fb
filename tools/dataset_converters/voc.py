"""Make PASCAL VOC 2012 ready: image labels, the augmented split, and a look at both.

    python tools/dataset_converters/voc.py data/VOCdevkit/VOC2012
    python tools/dataset_converters/voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE
    python tools/dataset_converters/voc.py data/VOCdevkit/VOC2012 --labels cls_labels.npy

ROOT is the folder with JPEGImages, Annotations and ImageSets. Written into it:

* image_labels.json, ID -> class names, from the XML annotations, or from a label file of
  the field (a pickled .npy, read by an unpickler that builds arrays and dicts alone);
* ImageSets/Segmentation/train_aug.txt, unless it is there: the training images of VOC and
  those of SBD, without VOC's validation images. What SBD has is known from --sbd, or from
  a folder SegmentationClassAug;
* with --sbd SegmentationClassAug/ID.png: VOC's own masks, and SBD's (cls/ID.mat) where VOC
  has none. No training reads them. An interrupted conversion goes on with the next call.

Numbers of images, and of images per class, are printed beside those that the field
publishes. Exit status 1: images or labels are missing.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from mmseg_more.datasets.preparation.pickled_labels import read_pickled_labels
from mmseg_more.datasets.preparation.sbd import find_sbd, write_augmented_masks
from mmseg_more.datasets.preparation.split_lists import write_split
from mmseg_more.datasets.preparation.voc12 import (
    AUGMENTED_MASKS,
    CLASSES,
    SPLIT_FOLDER,
    check_layout,
    classes_report,
    compare_labels,
    find_augmented_split,
    find_problems,
    read_splits,
    read_xml_labels,
    splits_report,
)
from mmseg_more.engine.command_line import CommandParser, command, process_count
from mmseg_more.files import write_bytes
from mmseg_more.masks.cores import usable_cores

LABEL_FILE = 'image_labels.json'
DEFAULT_ROOT = Path('data/VOCdevkit/VOC2012')  # of the configs


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('root', metavar='ROOT', type=Path, help='the folder VOC2012')
    parser.add_argument('--sbd', type=Path, help='the unpacked benchmark_RELEASE of SBD')
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        '--labels', type=Path, help='label file of the field, cls_labels*.npy'
    )
    source.add_argument(
        '--no-difficult',
        action='store_true',
        help="leave out objects that VOC calls difficult; the field's files have them",
    )
    parser.add_argument(
        '--workers',
        type=process_count,
        default=usable_cores(),
        help='processes (default: %(default)s, the cores)',
    )
    return parser.parse_args(argv)


def next_step(args: argparse.Namespace, splits: Sequence[str], problems: List[str]) -> str:
    """What to type, or to do, now."""
    if problems:
        return 'next: complete what is missing, and start the same command again'
    lines = []
    options = ['model.pretrained=jx_vit_base_p16_224-80ecf9dd.pth']
    if args.root != DEFAULT_ROOT:
        options += [
            f'{loader}_dataloader.dataset.data_root={args.root}'
            for loader in ('train', 'val')
        ]
    if args.labels or args.no_difficult:  # the configs read the annotations themselves
        options.append(f'train_dataloader.dataset.label_file={LABEL_FILE}')
    if 'train_aug' not in splits:
        lines.append(
            'no train_aug: give SBD by --sbd, or put train_aug.txt into '
            f"{args.root / SPLIT_FOLDER}; VOC's own training images need neither"
        )
        options.append(f'train_dataloader.dataset.ann_file={SPLIT_FOLDER}/train.txt')
    train = ['python', 'tools/train.py', 'configs/more/more_vit-b_voc.py', '--cfg-options']
    return '\n'.join([*lines, f'next: {shlex.join([*train, *options])}'])


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    check_layout(args.root)
    sbd = find_sbd(args.sbd) if args.sbd else {}
    # first what can be refused
    pickled = read_pickled_labels(args.labels, CLASSES) if args.labels else None
    labels = read_xml_labels(args.root / 'Annotations', not args.no_difficult)
    if pickled is not None:
        print(f'{args.labels}: {compare_labels(pickled, labels)}')
        labels = pickled
    content = json.dumps(dict(sorted(labels.items())), indent=0) + '\n'
    write_bytes(args.root / LABEL_FILE, content.encode())
    print(f'{args.root / LABEL_FILE}: written, {len(labels)} images')
    if sbd:
        masks = args.root / AUGMENTED_MASKS
        count = write_augmented_masks(sbd, args.root, masks, args.workers)
        print(f'{masks}: {count} masks')
    augmented = find_augmented_split(args.root, list(sbd))
    if augmented is not None:
        path = args.root / SPLIT_FOLDER / 'train_aug.txt'
        print(f'{write_split(path, augmented.ids)} (of {augmented.source})')
    splits = read_splits(args.root)
    print(splits_report(splits))
    print(classes_report(labels, splits))
    problems = find_problems(args.root, labels, splits)
    for problem in problems:
        print(f'missing: {problem}')
    print(next_step(args, list(splits), problems))
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
