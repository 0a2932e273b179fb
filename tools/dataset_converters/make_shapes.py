"""Write a dataset of procedurally drawn scenes in the layout of PASCAL VOC 2012.

    python tools/dataset_converters/make_shapes.py data/shapes

The scenes are described in ``shapes_scene.py``. The same arguments give the same bytes
(with the same numpy, OpenCV and Pillow); each image depends only on the seed, its split
and its number. Written under OUT:

    JPEGImages/ID.jpg, SegmentationClass/ID.png (palette of VOC), Annotations/ID.xml,
    ImageSets/Segmentation/{train,val}.txt, image_labels.json (ID -> class names),
    classes.txt, settings.json
"""

import argparse
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np
from PIL import Image

from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.progress import with_progress

sys.path.insert(0, str(Path(__file__).resolve().parent))
from shapes_scene import DEMO, NATURAL, Scene, World, draw_scene

WORLDS = dict(demo=DEMO, natural=NATURAL)
# the config that learns them, and where it looks for them
TRAININGS = dict(
    demo=('configs/more/more_vit-t_shapes.py', 'data/shapes'),
    natural=(
        'configs/more/more_vit-t8_1xb16-1400iters_natural-shapes-112x112.py',
        'data/natural_shapes',
    ),
)
PARTS = ('train', 'val', 'test')
SETTINGS_FILE = 'settings.json'
DRAWING_VERSION = 1  # raise it when the same arguments would give another dataset
SPLITS = ('train', 'val')  # the position is part of each image's seed


def voc_palette() -> List[int]:
    """The 256 colours of PASCAL VOC, flat.

    The bits of the index are dealt to r, g, b in turn, from the highest bit down.
    """
    palette = []
    for index in range(256):
        color = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                color[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        palette += color
    return palette


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument(
        'out',
        type=Path,
        help='folder to write; new, empty, or holding the same dataset already',
    )
    parser.add_argument(
        '--num-train', type=int, default=1000, help='training images (default: %(default)s)'
    )
    parser.add_argument(
        '--num-val', type=int, default=200, help='validation images (default: %(default)s)'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='0 or more (default: %(default)s)'
    )
    parser.add_argument(
        '--size',
        type=int,
        help='side of the images in pixels (default: 96, of natural scenes 224)',
    )
    parser.add_argument(
        '--scenes',
        choices=tuple(WORLDS),
        default='demo',
        help='six classes on drawn backgrounds; or twenty with a long tail, a boat and its '
        'water, on photographs (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    if args.size is None:
        args.size = 224 if args.scenes == 'natural' else 96
    if args.num_train < 1 or args.num_val < 1:
        parser.error('--num-train and --num-val must be at least 1')
    if args.seed < 0:
        parser.error('--seed must not be negative')
    if not 64 <= args.size <= 512:
        parser.error('--size must lie between 64 and 512')
    return args


def annotation_xml(image_id: str, scene: Scene, classes: Sequence[str]) -> str:
    """A VOC annotation: class and box (1-based, inclusive) of every object."""
    height, width = scene.mask.shape
    lines = [
        '<annotation>',
        f'  <filename>{image_id}.jpg</filename>',
        '  <size>',
        f'    <width>{width}</width><height>{height}</height><depth>3</depth>',
        '  </size>',
        '  <segmented>1</segmented>',
    ]
    for label, box in scene.boxes:
        corners = zip(('xmin', 'ymin', 'xmax', 'ymax'), box)
        corners = ''.join(f'<{tag}>{value + 1}</{tag}>' for tag, value in corners)
        lines += [
            '  <object>',
            f'    <name>{classes[label]}</name>',
            '    <difficult>0</difficult>',
            f'    <bndbox>{corners}</bndbox>',
            '  </object>',
        ]
    return '\n'.join(lines + ['</annotation>', ''])


def write_image(
    root: Path, image_id: str, scene: Scene, palette: List[int], classes: Sequence[str]
) -> List[str]:
    """Write image, mask and annotation; returns the names of the visible classes."""
    Image.fromarray(scene.image).save(
        root / 'JPEGImages' / f'{image_id}.jpg', quality=95, subsampling=0
    )
    mask = Image.fromarray(scene.mask)
    mask.putpalette(palette)
    mask.save(root / 'SegmentationClass' / f'{image_id}.png')
    annotation = annotation_xml(image_id, scene, classes)
    (root / 'Annotations' / f'{image_id}.xml').write_text(annotation, encoding='utf-8')
    return [classes[value - 1] for value in np.unique(scene.mask) if value > 0]


def write_dataset(
    root: Path, counts: Dict[str, int], seed: int, size: int, world: World
) -> None:
    """Draw all images of all splits into ``root``, an existing empty folder."""
    for folder in (
        'JPEGImages',
        'SegmentationClass',
        'Annotations',
        'ImageSets/Segmentation',
    ):
        (root / folder).mkdir(parents=True)
    palette, labels = voc_palette(), {}
    for number, split in enumerate(SPLITS):
        ids = [f'{split}_{index:05d}' for index in range(counts[split])]
        for index, image_id in enumerate(with_progress(ids, f'drawing {split}')):
            scene = draw_scene(np.random.default_rng([seed, number, index]), size, world)
            labels[image_id] = write_image(root, image_id, scene, palette, world.classes)
        (root / 'ImageSets' / 'Segmentation' / f'{split}.txt').write_text(
            '\n'.join(ids) + '\n', encoding='utf-8'
        )
    (root / 'image_labels.json').write_text(
        json.dumps(labels, indent=0) + '\n', encoding='utf-8'
    )
    (root / 'classes.txt').write_text('\n'.join(world.classes) + '\n', encoding='utf-8')


def check_out(out: Path, settings: dict) -> bool:
    """Whether OUT holds this dataset already.

    Raises:
        ValueError: If it holds anything else.
    """
    if out.is_file():
        raise ValueError(f'{out} is a file; give a folder to write the dataset to')
    if not out.is_dir() or not any(out.iterdir()):
        return False
    try:
        found = json.loads((out / SETTINGS_FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        raise ValueError(
            f'{out} is not empty and holds no shapes dataset; give a new or an empty folder'
        ) from None
    if found != settings:
        raise ValueError(
            f'{out} holds a shapes dataset with other settings: {found}, asked for: '
            f'{settings}; give another folder, or delete this one first'
        )
    return True


def next_line(scenes: str, out: Path) -> str:
    """The command that trains on the dataset."""
    config, data_root = TRAININGS[scenes]
    command_line = ['python', 'tools/train.py', config]
    if out != Path(data_root):
        command_line += ['--cfg-options']
        command_line += [f'{part}_dataloader.dataset.data_root={out}' for part in PARTS]
    return f'next: {shlex.join(command_line)}'


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    out = args.out.resolve()
    settings = dict(
        drawing_version=DRAWING_VERSION,
        num_train=args.num_train,
        num_val=args.num_val,
        seed=args.seed,
        size=args.size,
    )
    if args.scenes != 'demo':  # the demo's settings stay as they were written before
        settings['scenes'] = args.scenes
    world = WORLDS[args.scenes]
    if check_out(out, settings):
        print(f'{args.out}: already there')
        return 0
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f'.{out.name}.unfinished-{os.getpid()}')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        write_dataset(
            unfinished,
            dict(train=args.num_train, val=args.num_val),
            args.seed,
            args.size,
            world,
        )
        (unfinished / SETTINGS_FILE).write_text(
            json.dumps(settings, indent=2) + '\n', encoding='utf-8'
        )
        # onto nothing or an empty folder: a reader sees all of the dataset or none
        os.replace(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(
        f'{args.out}: wrote {args.num_train} training and {args.num_val} validation '
        f'images of {len(world.classes)} classes'
    )
    print(next_line(args.scenes, args.out))
    return 0


if __name__ == '__main__':
    sys.exit(main())
