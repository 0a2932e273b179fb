"""Draw what a trained model makes of some validation images, as one PNG.

    python tools/analysis/draw_grid.py CONFIG CHECKPOINT OUT.png [--num 8]

Columns: image, raw attention, CAM, LAM, refined training label, prediction, truth. The
images are spread evenly over the validation set.
"""

import argparse
from typing import Optional, Sequence

import mmcv
import torch
from mmengine.registry import init_default_scope

from mmseg_more.engine import launch
from mmseg_more.engine.command_line import CommandParser, add_config_options, command
from mmseg_more.spread import spread_indices
from mmseg_more.visualization import draw_model_grid

from mmseg.registry import DATASETS


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', help='PNG file to write')
    parser.add_argument('--num', type=int, default=8, help='number of images')
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='device to run on',
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    if args.num < 1:
        parser.error('--num must be at least 1')
    launch.check_checkpoint(args.checkpoint)
    args.cfg = launch.load_config(args.config, args.cfg_options)
    return args


@command
def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    init_default_scope(args.cfg.get('default_scope', 'mmseg'))
    model = launch.load_model(args.cfg, args.checkpoint, args.device)
    dataset = DATASETS.build(args.cfg.val_dataloader.dataset)
    indices = spread_indices(len(dataset), args.num)
    picture = draw_model_grid(model, dataset, indices)
    mmcv.imwrite(mmcv.rgb2bgr(picture), args.out)
    print(f'{len(indices)} images of {len(dataset)}: {args.out}')


if __name__ == '__main__':
    main()
