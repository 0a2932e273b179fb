"""Export a MoRe for other runtimes, with dynamic batch size, height and width.

    python tools/deployment/export.py CONFIG CHECKPOINT --out more.onnx
    python tools/deployment/export.py CONFIG CHECKPOINT --format export \\
        --output maps --source lam --out lam.pt2

What is written is compared with the segmentor first, in three sizes and two batch sizes; a
file that differs is not written. docs/deployment.md describes inputs, outputs and metadata.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Optional, Sequence

from mmseg_more.apis import MoReInferencer
from mmseg_more.deployment import (
    FORMATS,
    SUFFIXES,
    LocalizationGraph,
    SegmentationGraph,
    describe,
    export_network,
)
from mmseg_more.engine import launch
from mmseg_more.engine.command_line import CommandParser, add_config_options, command
from mmseg_more.models.structures import MAP_NAMES


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write')
    parser.add_argument(
        '--format', choices=FORMATS, default='onnx', help='default: %(default)s'
    )
    parser.add_argument(
        '--output',
        choices=['seg', 'maps'],
        default='seg',
        help='segmentation logits, or localization maps and class scores '
        '(default: %(default)s)',
    )
    parser.add_argument('--source', choices=MAP_NAMES, help='which maps (default: lam)')
    parser.add_argument(
        '--no-check',
        action='store_true',
        help='write without a comparison with the segmentor',
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    if args.source and args.output != 'maps':
        parser.error('--source belongs to --output maps')
    suffix = SUFFIXES[args.format]
    if Path(args.out).suffix != suffix:
        parser.error(f'--out {args.out}: files of --format {args.format} end with {suffix}')
    return args


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    cfg = launch.load_config(args.config, args.cfg_options)
    # compiled blocks are no part of a graph
    cfg.merge_from_dict({'model.backbone.compile': False})
    inferencer = MoReInferencer(cfg, args.checkpoint, device='cpu')
    model = inferencer.model.float()
    model.backbone.merge_lora()
    graph = (
        SegmentationGraph(model)
        if args.output == 'seg'
        else LocalizationGraph(model, args.source or 'lam')
    ).eval()
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    pipeline = dataset.get('pipeline') or cfg.get('test_pipeline')
    metadata = describe(graph, model.dataset_meta, pipeline)
    difference = export_network(
        graph, args.out, args.format, metadata, check=not args.no_check
    )
    outcome = (
        'not compared with the segmentor'
        if math.isnan(difference)
        else f'differs from the segmentor by {difference:.1e} at most'
    )
    print(f'{args.out}: {", ".join(graph.output_names)}; {outcome}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
