"""Draw COCO's instances as masks, and list the images that belong to them.

    python tools/dataset_converters/coco14.py \\
        data/coco2014/annotations/instances_val2014.json \\
        data/coco2014/SegmentationClass/val2014

Written:

* MASK_DIR/NAME.png, named after the image file: 0 background, k the k-th of the 80 classes,
  255 crowds. Smaller objects lie on top of larger ones, all objects on top of the crowds.
  The same command goes on where an earlier one stopped.
* val.txt, the images that show any class, and val_part.txt, 5000 of them at equal
  distances, unless there are such files; into the data set's folder, that of annotations/.

Image files are looked at as well where they are found: those that are broken, missing or of
another size are named and left out of the lists (exit status 1); gray ones are counted.
Needs pycocotools and ijson: pip install "mmseg_more[coco]".
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from mmseg_more.datasets.preparation.coco14 import (
    CLASSES,
    draw_masks,
    drawing_report,
    open_mask_folder,
    spread_part,
    usable_images,
)
from mmseg_more.datasets.preparation.coco_instances import read_instances
from mmseg_more.datasets.preparation.coco_masks import CROWD_MODES
from mmseg_more.datasets.preparation.split_lists import write_split
from mmseg_more.engine.command_line import CommandParser, command, process_count
from mmseg_more.masks.cores import usable_cores

DEFAULT_ROOT = Path('data/coco2014')  # of the configs
DEFAULT_MASKS = 'SegmentationClass/val2014'
MAX_NAMED = 20


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument(
        'instances', metavar='INSTANCES.json', type=Path, help='instances_val2014.json'
    )
    parser.add_argument('mask_dir', metavar='MASK_DIR', type=Path, help='where masks go')
    parser.add_argument(
        '--crowd',
        choices=CROWD_MODES,
        default=CROWD_MODES[0],
        help='paint crowds with 255 or with their class (default: %(default)s)',
    )
    parser.add_argument(
        '--images',
        type=Path,
        help='folder of the image files (default: val2014 beside annotations/)',
    )
    parser.add_argument(
        '--lists',
        type=Path,
        help='folder of the lists (default: that of annotations/, else that of MASK_DIR)',
    )
    parser.add_argument(
        '--workers',
        type=process_count,
        default=usable_cores(),
        help='processes (default: %(default)s, the cores)',
    )
    args = parser.parse_args(argv)
    if args.images is not None and not args.images.is_dir():
        parser.error(f'--images: the folder {args.images} does not exist')
    is_in_layout = args.instances.parent.name == 'annotations'
    args.root = args.instances.parent.parent if is_in_layout else args.mask_dir.parent
    args.split = args.instances.stem.replace('instances_', '')
    if args.images is None and (args.root / args.split).is_dir():
        args.images = args.root / args.split
    args.lists = args.lists or args.root
    return args


def write_lists(args: argparse.Namespace, names: List[str]) -> None:
    """The list of all images, and for validation that of a part."""
    split = args.split.replace('2014', '')
    lists = {split: names}
    if split == 'val':
        lists['val_part'] = spread_part(names)
    for name, listed in lists.items():
        print(write_split(args.lists / f'{name}.txt', listed))


def next_step(args: argparse.Namespace, problems: List[str]) -> str:
    """What to type, or to do, now."""
    if problems:
        return (
            'next: replace these files and start the same command again, or test on the '
            'list: --cfg-options test_dataloader.dataset.ann_file=val.txt'
        )
    options = []
    if args.root != DEFAULT_ROOT:
        options.append(f'test_dataloader.dataset.data_root={args.root}')
    if args.mask_dir != args.root / DEFAULT_MASKS:
        options.append(
            f'test_dataloader.dataset.data_prefix.seg_map_path={args.mask_dir.absolute()}'
        )
    test = ['python', 'tools/test.py', 'configs/more/more_vit-b_coco.py', 'CHECKPOINT']
    return f'next: {shlex.join([*test, *(["--cfg-options", *options] if options else [])])}'


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    images = read_instances(args.instances, CLASSES)
    open_mask_folder(args.mask_dir, args.instances, args.crowd)
    drawn = draw_masks(images, args.mask_dir, args.images, args.crowd, args.workers)
    print(args.mask_dir, *drawing_report(drawn, args.split), sep='\n')
    if args.images is None:
        print(f'no folder {args.split} in {args.root}: image files were not looked at')
    problems = [
        image.state.problem for image in drawn if image.state and image.state.problem
    ]
    for problem in problems[:MAX_NAMED]:
        print(f'left out: {problem}')
    if len(problems) > MAX_NAMED:
        print(f'left out: {len(problems) - MAX_NAMED} more')
    write_lists(args, usable_images(drawn))
    print(next_step(args, problems))
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
