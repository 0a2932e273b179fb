"""Take corrected masks back from a labelling tool, for a further training.

    python tools/import_masks.py corrected.zip --from cvat --out corrected \
        --classes cat dog --images photos --labels labels.csv
    python tools/train.py mine.py \
        --cfg-options train_dataloader.dataset.mask_file=corrected/masks.json

--from voc takes a folder of PNGs of labels, or one with SegmentationClass; coco a JSON file
of instances; cvat the archive "Segmentation mask 1.1", or its folder; labelstudio an export
"JSON". DIR gets a PNG per image (0 background, k the k-th class, 255 not labelled) and
masks.json. docs/annotation.md says what is read of each, and what the training does with
it.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Collection, Optional, Sequence

from mmseg_more.annotation import READERS, ImportSettings, import_masks
from mmseg_more.datasets.image_labels import name_few
from mmseg_more.datasets.label_sources import match_labels, read_labels
from mmseg_more.datasets.mask_file import MASK_FILE
from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.image_files import find_images, without_suffix
from mmseg_more.localization.pseudo_label import IGNORE_INDEX

UNCOVERED = dict(background=0, ignore=IGNORE_INDEX)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('path', metavar='FILE_OR_DIR', help='what the tool has written')
    parser.add_argument(
        '--from', dest='tool', required=True, choices=list(READERS), help='the tool'
    )
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='what to write; must be new'
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        required=True,
        metavar='NAME',
        help='names in the order of the config, without background',
    )
    parser.add_argument(
        '--images', help='folder of the images: names and sizes are compared with them'
    )
    parser.add_argument(
        '--labels',
        help='image labels, in any form of check_dataset: each image must have some; needs '
        '--images',
    )
    parser.add_argument(
        '--ann-file', type=Path, help='only the images that this list names, one per line'
    )
    parser.add_argument(
        '--prefix',
        help='what stands before the path of an image where the tool names it (default: '
        'what docs/annotation.md says)',
    )
    parser.add_argument(
        '--uncovered',
        choices=list(UNCOVERED),
        default='background',
        help='what pixels are that no class covers, in images that somebody has annotated: '
        'background (default), or not labelled',
    )
    args = parser.parse_args(argv)
    if args.labels and not args.images:
        parser.error('--labels needs --images, the folder of the images they are of')
    return args


def labelled_images(images: str, labels: str) -> Collection[str]:
    """Names of the images of a folder that have image labels.

    Raises:
        FileNotFoundError, ValueError: If the labels cannot be read.
    """
    paths = find_images(images).images
    return match_labels(read_labels(labels, paths).labels, paths).labels.keys()


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    settings = ImportSettings(
        args.classes, UNCOVERED[args.uncovered], args.prefix, args.images
    )
    labelled = labelled_images(args.images, args.labels) if args.labels else None
    listed = None
    if args.ann_file:
        lines = args.ann_file.read_text(encoding='utf-8-sig').splitlines()
        listed = {without_suffix(line.strip()) for line in lines if line.strip()}
    imported = import_masks(args.path, args.tool, args.out, settings, labelled, listed)
    print(f'{args.out}: {len(imported.masks)} corrected masks of {args.tool}')
    skipped = imported.not_annotated
    if skipped:
        print(f'{len(skipped)} images that nobody has annotated: {name_few(skipped)}')
    option = f'train_dataloader.dataset.mask_file={Path(args.out) / MASK_FILE}'
    print(f'next: python tools/train.py CONFIG --cfg-options {shlex.quote(option)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
