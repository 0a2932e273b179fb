"""Hand masks to a labelling tool, those of the least certain images first.

    python tools/export_masks.py work_dirs/masks --to coco --out masks.json
    python tools/export_masks.py work_dirs/masks --to yolo --images photos --out labels

DIR is a folder of masks with its manifest.json. coco writes a file .json, cvat a .zip, the
others a folder. docs/annotation.md tells how each tool takes them, and what is lost.
"""

import argparse
import sys
from typing import Optional, Sequence

from mmseg_more.annotation import FORMATS, MaskSource, export_masks
from mmseg_more.datasets.image_labels import name_few
from mmseg_more.engine.command_line import CommandParser, command


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('masks', metavar='DIR', help='folder of masks with manifest.json')
    parser.add_argument('--to', required=True, choices=list(FORMATS), help='the tool')
    parser.add_argument(
        '--out', required=True, metavar='FILE_OR_DIR', help='what to write; must be new'
    )
    parser.add_argument(
        '--images', help='folder of the images (default: an image is called NAME.jpg)'
    )
    parser.add_argument(
        '--prefix',
        help='what stands before the path of an image where the tool names it: a folder, '
        'a URL (default: what docs/annotation.md says)',
    )
    return parser.parse_args(argv)


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    source = MaskSource(args.masks, args.images, args.prefix)
    export_masks(source, args.to, args.out)
    print(f'{args.out}: {len(source)} masks for {args.to}, the least certain first')
    if source.with_ignored:
        what = (
            'left out, which YOLO takes for background'
            if args.to == 'yolo'
            else 'exported as the class "ignored"'
        )
        names = name_few(source.with_ignored)
        print(f'ignored pixels of {len(source.with_ignored)} masks ({names}) are {what}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
