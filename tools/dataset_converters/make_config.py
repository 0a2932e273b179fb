"""Make a config for images and image labels of one's own.

    python -m mmseg_more make_config photos labels.csv --out mine.py \\
        --pretrained jx_vit_base_p16_224-80ecf9dd.pth
    python -m mmseg_more train mine.py

LABELS is what check_dataset takes. Written are the config and, in a folder of its name,
labels.json, train.txt and val.txt. Images that cannot be read or have no labels are left
out, and named. No mask is needed; masks of some images (ID.png, 0 background, then the
classes in their order, 255 ignored) let maps and segmentation be scored. Those images are
validated on, and their copies without a mask are left out, and named.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Optional, Sequence

from mmseg_more.datasets.image_labels import name_few
from mmseg_more.datasets.own_data import (
    NETWORKS,
    config_files,
    make_survey,
    plan_config,
    write_config,
)
from mmseg_more.engine.command_line import CommandParser, command


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('images', help='folder of the images; its subfolders count too')
    parser.add_argument('labels', help='file or folder of the labels, or "folders"')
    parser.add_argument('--out', required=True, metavar='NAME.py', help='the config')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace a config that is there'
    )
    parser.add_argument(
        '--network',
        choices=sorted(NETWORKS),
        default='vit-b',
        help='vit-b: the published one, for results; vit-t: a small one, which tries '
        'everything in minutes without a GPU (default: %(default)s)',
    )
    parser.add_argument(
        '--pretrained', metavar='FILE', help='weights of a plain ViT-B/16 to start from'
    )
    parser.add_argument(
        '--masks', metavar='DIR', help='folder of masks of some images, to validate on'
    )
    parser.add_argument(
        '--classes', nargs='+', metavar='NAME', help='their order (default: by name)'
    )
    parser.add_argument(
        '--val-share',
        type=float,
        default=0.2,
        metavar='S',
        help='share of the images to validate on (default: %(default)s)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the split (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    if not 0 < args.val_share < 1:
        parser.error('--val-share must lie between 0 and 1')
    if not args.out.endswith('.py'):
        parser.error(f'--out {args.out}: the name of a config ends with .py')
    there = [file for file in config_files(args.out) if file.exists()]
    if any(file.samefile(args.labels) for file in there if Path(args.labels).exists()):
        parser.error(f'{args.labels} would be overwritten: give --out another name')
    if there and not args.overwrite:
        parser.error(f'{there[-1]} exists: give --out another name, or --overwrite')
    return args


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    survey = make_survey(args.images, args.labels)
    config = plan_config(
        survey,
        args.network,
        args.classes,
        args.val_share,
        args.seed,
        args.masks,
        args.pretrained,
    )
    left_out = sorted({image.image_id for image in survey.images} - config.labels.keys())
    if left_out:
        print(f'{len(left_out)} images are left out: {name_few(left_out, 10)}')
    if config.copies:
        print(
            f'{len(config.copies)} images without a mask are left out, as copies of images '
            f'that are validated on: {name_few(config.copies, 10)}'
        )
    *lists, path = write_config(config, args.out)
    print(
        f'{path}: {len(config.classes)} classes, {len(config.split.train)} images to train '
        f'on, {len(config.split.val)} to validate on, {config.max_iters} iterations, '
        f'crops of {config.crop}'
    )
    if NETWORKS[args.network].needs_start and config.pretrained is None:
        print(
            'without --pretrained the network starts from random weights, and learns '
            'nothing useful from a small data set'
        )
    print(f'next: python -m mmseg_more train {shlex.quote(path)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
