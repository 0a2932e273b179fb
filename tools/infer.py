"""Run MoRe on images without labels: class scores, masks, maps, pictures.

    python tools/infer.py IMAGE_OR_FOLDER... CONFIG CHECKPOINT --out-dir out
    python tools/infer.py photos configs/more/more_vit-b_voc.py more_voc.pth \\
        --source lam --multi-scale --crf --maps cam lam

Folders are looked through with their subfolders; what is no image is counted and named.
OUT gets ``pred/NAME.png`` (palette PNGs, 0 is background; name, subfolder and size of the
image, upright as a viewer shows it), ``vis/NAME.png`` (pictures) and
``scores.json`` (of each image the predicted classes, scores, and the confidence: the mean
IoU that its mask is expected to have). Images that cannot be read
are reported by name, the rest goes on, and the exit status is 1; it is 2, and nothing is
written, if the arguments cannot be used.
"""

import argparse
import sys
from typing import Optional, Sequence

from mmseg_more.apis import MoReInferencer
from mmseg_more.engine import launch
from mmseg_more.engine.command_line import (
    CommandParser,
    add_config_options,
    command,
    pixel_limit,
)
from mmseg_more.masks import BACKGROUNDS


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('inputs', nargs='+', help='images, or folders of images')
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out-dir', default='outputs', help='folder to write to (default: %(default)s)'
    )
    parser.add_argument(
        '--source',
        choices=['seg', 'lam', 'cam', 'fused'],
        help='what the masks are made of: the segmentation head or a localization map '
        '(default: seg)',
    )
    parser.add_argument(
        '--multi-scale',
        action='store_true',
        help='several scales, with flips: 1, 1.25, 1.5 for seg, seven for maps',
    )
    parser.add_argument(
        '--scales', nargs='+', type=float, metavar='S', help='these scales instead'
    )
    parser.add_argument(
        '--crf', action='store_true', help='refine the masks by the dense CRF'
    )
    parser.add_argument(
        '--crf-workers', type=int, help='processes for the CRF (default: one per core)'
    )
    parser.add_argument(
        '--max-pixels',
        type=pixel_limit,
        metavar='N',
        help='images of more pixels are worked on at a lower size, and their masks come '
        'back to the full one; none: no limit (default: 1000000)',
    )
    parser.add_argument(
        '--bkg',
        type=float,
        help='background threshold of a map, without CRF or with --background calibrated '
        '(default: of the config)',
    )
    parser.add_argument(
        '--calibration',
        metavar='FILE',
        help='take what tools/test.py has written into FILE: thresholds for masks of maps '
        '(--calibrate) and curves that calibrate the confidence (--fit-confidence)',
    )
    parser.add_argument(
        '--background',
        choices=BACKGROUNDS,
        help='what the CRF takes for the background of a map: 1 - its maximum, or with '
        'the threshold moved to .5 (default: calibrated with --calibration, else '
        'complement)',
    )
    parser.add_argument(
        '--classes',
        choices=['predicted', 'all'],
        help='classes that a mask may show (default: all for seg, else predicted)',
    )
    parser.add_argument(
        '--maps',
        nargs='+',
        choices=['cam', 'lam', 'fused', 'attention'],
        help='draw these maps of the predicted classes beside the mask',
    )
    parser.add_argument(
        '--confidence-maps',
        action='store_true',
        help='write confidence/NAME.png too: the confidence of each pixel x 255',
    )
    parser.add_argument('--no-pictures', action='store_true', help='masks and scores alone')
    parser.add_argument(
        '--opacity', type=float, help='of the colours, in [0, 1] (default: .5)'
    )
    parser.add_argument('--show', action='store_true', help='show each picture')
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        help='images that the network sees together (default: %(default)s)',
    )
    parser.add_argument('--device', help='default: a GPU where there is one')
    add_config_options(parser)
    args = parser.parse_args(argv)
    if args.batch_size < 1 or (args.crf_workers or 0) < 0:
        parser.error('--batch-size must be at least 1 and --crf-workers at least 0')
    return args


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    inferencer = MoReInferencer(
        launch.load_config(args.config, args.cfg_options),
        args.checkpoint,
        device=args.device,
    )
    # What was not given is left to the defaults of the inferencer.
    options = dict(
        num_workers=args.crf_workers,
        img_out_dir='' if args.no_pictures else None,
        source=args.source,
        multi_scale=args.multi_scale or None,
        scales=args.scales,
        crf=args.crf or None,
        bkg=args.bkg,
        calibration=args.calibration,
        background=args.background,
        policy=args.classes,
        maps=args.maps,
        confidence_maps=args.confidence_maps or None,
        opacity=args.opacity,
        show=args.show or None,
    )
    given = {name: value for name, value in options.items() if value is not None}
    if args.max_pixels is not None:
        given['max_pixels'] = args.max_pixels.value
    results = inferencer.stream(args.inputs, args.batch_size, out_dir=args.out_dir, **given)
    errors = [result.error for result in results]
    failed = [error for error in errors if error is not None]
    print(f'{len(errors) - len(failed)} of {len(errors)} images: {args.out_dir}')
    for error in failed:
        print(f'error: {error}', file=sys.stderr)
    if len(failed) < len(errors):
        print(
            f'next: correct the masks in {args.out_dir}/pred, those with the lowest '
            f'image_confidence in {args.out_dir}/scores.json first'
        )
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
