"""Make one HTML page about a test, or about a folder of masks.

    python tools/report.py CONFIG CHECKPOINT OUT.html
    python tools/report.py CONFIG OUT.html --masks DIR
    python tools/report.py CONFIG CHECKPOINT OUT.html --masks DIR --split train

The page has a table of the classes, threshold curves, confusion, and the images with their
maps and labels, the worst first. It needs nothing else, no network either. DIR is what
tools/test.py --pseudo-labels has written. With the masks of the validation set it shows
IoU; without true masks those parts are left out, and the least confident images come first.
"""

import argparse
import os.path as osp
from typing import Iterator, List, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from mmseg_more.engine import launch
from mmseg_more.engine.command_line import CommandParser, add_config_options, command
from mmseg_more.files import write_bytes
from mmseg_more.masks import SPLITS
from mmseg_more.masks.images import MaskImage, list_images
from mmseg_more.progress import with_progress
from mmseg_more.report import (
    Gallery,
    ReportedMasks,
    RunFigures,
    SeenImage,
    draw_card,
    render_page,
    see_by_model,
    see_files,
)
from mmseg_more.report.settings import evaluated_thresholds, report_dataset, shown_maps
from mmseg_more.spread import spread_indices


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='config of the model and the data')
    parser.add_argument(
        'checkpoint', nargs='?', help='checkpoint file; may be left out with --masks'
    )
    parser.add_argument('out', help='HTML file to write')
    parser.add_argument(
        '--masks', metavar='DIR', help='show and judge the masks of this folder'
    )
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='val',
        help='whose images: of train without true masks (default: %(default)s)',
    )
    parser.add_argument(
        '--limit', type=int, metavar='N', help='so many images, spread over the split'
    )
    parser.add_argument(
        '--side',
        type=int,
        default=224,
        metavar='N',
        help='pictures of more than N x N pixels are reduced (default: %(default)s)',
    )
    parser.add_argument(
        '--max-mb',
        type=float,
        default=10.0,
        metavar='MB',
        help='room for the pictures: the worst images that fit are shown, figures are of '
        'all (default: %(default)s)',
    )
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='device to run on',
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    if not args.out.lower().endswith(('.html', '.htm')):
        parser.error(f'the page must be named *.html, got {args.out}')
    if args.checkpoint is None and args.masks is None:
        parser.error('a page needs CHECKPOINT, --masks or both')
    if (args.limit is not None and args.limit < 1) or args.side < 1 or args.max_mb <= 0:
        parser.error('--limit and --side must be at least 1, --max-mb more than 0')
    if args.checkpoint is not None:
        launch.check_checkpoint(args.checkpoint)
    args.cfg = launch.load_config(args.config, args.cfg_options)
    return args


def see_images(
    args: argparse.Namespace, dataset: BaseDataset, images: List[MaskImage]
) -> Iterator[SeenImage]:
    """The images, with what the model makes of them if there is one."""
    if args.checkpoint is None:
        return see_files(dataset, images)
    model = launch.load_model(args.cfg, args.checkpoint, args.device)
    return see_by_model(model, dataset, images, shown_maps(args.cfg))


def facts_of(args: argparse.Namespace, num_seen: int, num_split: int) -> dict:
    facts = {'config': args.config}
    if args.checkpoint is not None:
        facts['checkpoint'] = args.checkpoint
    if args.masks is not None:
        facts['masks'] = args.masks
    facts['images'] = f'{num_seen} of the {num_split} of the {args.split} split'
    return facts


@command
def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    cfg: Config = args.cfg
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    dataset = report_dataset(cfg, args.split)
    classes, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    images = all_images = list_images(dataset)
    masks = None if args.masks is None else ReportedMasks(args.masks, classes)
    if masks is not None:
        images = masks.of_split(images)
    if args.limit is not None:
        images = [images[i] for i in spread_indices(len(images), args.limit)]
    figures = RunFigures(classes, evaluated_thresholds(cfg))
    gallery = Gallery(round(1e6 * args.max_mb))
    seen_images = see_images(args, dataset, images)
    for seen in with_progress(seen_images, 'images', total=len(images)):
        if masks is not None:
            seen = masks.add_to(seen)
        gallery.add(draw_card(seen, figures.add(seen), palette, args.side**2))
    title = osp.basename(osp.abspath(args.checkpoint or args.masks))  # also of '.'
    facts = facts_of(args, len(images), len(all_images))
    page = render_page(title, facts, figures, gallery, palette)
    write_bytes(args.out, page)
    print(
        f'{len(images)} images, {len(gallery.cards)} of them shown, '
        f'{len(page) / 1e6:.1f} MB: {args.out}'
    )


if __name__ == '__main__':
    main()
