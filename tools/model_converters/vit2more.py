"""Show what MoRe takes from a plain ViT, and write it as a checkpoint.

    python tools/model_converters/vit2more.py vit.pth configs/more/more_vit-b_voc.py
    python tools/model_converters/vit2more.py vit.pth CONFIG start.pth --seed 0

SRC is a ViT of the config's family (docs/backbones.md). The report names every
key: what it becomes, what was repeated, left out and why, missing. Training does the same
with ``--cfg-options model.pretrained=SRC``, so writing is for those who want one start for
many runs (the positions of the registers are drawn): ``--cfg-options load_from=DST``.
"""

import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence

import torch

from mmseg_more.apis.model_conversion import (
    convert_vit_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from mmseg_more.engine import launch
from mmseg_more.engine.command_line import CommandParser, add_config_options, command
from mmseg_more.engine.type_name import type_name


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('src', help='checkpoint of a plain ViT')
    parser.add_argument('config', help='config of the MoRe to start')
    parser.add_argument('dst', nargs='?', help='file to write (default: report only)')
    parser.add_argument(
        '--seed', type=int, default=0, help='of the registers (default: %(default)s)'
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    if args.dst and Path(args.src).resolve() == Path(args.dst).resolve():
        parser.error('SRC and DST are the same file; give DST another name')
    args.cfg = launch.load_config(args.config, args.cfg_options)
    kind = type_name(args.cfg.model)
    if kind != 'MoRe':
        parser.error(f'{args.config} is a config of {kind}, not of MoRe')
    return args


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    conversion, report = convert_vit_checkpoint(read_checkpoint(args.src), args.cfg.model)
    print(report)
    if args.dst:
        write_checkpoint(
            args.dst,
            conversion.state_dict,
            dict(converted_from=Path(args.src).name, seed=args.seed),
        )
        print(f'{args.dst}: written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
