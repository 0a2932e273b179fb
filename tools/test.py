"""Test a segmentor; the arguments are those of MMSegmentation's tools/test.py.

    python tools/test.py configs/more/more_vit-b_voc.py \\
        work_dirs/more_vit-b_voc/iter_20000.pth

It adds to MMSegmentation's own script, which works on the same configs: misspelled keys
are errors, and so are weights that a checkpoint lacks; several metrics in one evaluator
can be given --out, --launcher works without a GPU, and instead of the usual evaluation
there are

    --pseudo-labels DIR   write a mask for each image, for a second network to train on
    --protocols           CAM, LAM, fused and segmentation: raw, multi-scale, with CRF
    --reliability JSON    whether the masks know how good they are: calibration, rejection
    --calibrate FILE      choose the background thresholds of the maps without any mask;
                          --calibration FILE takes them
    --export-voc FILE     write the archive that the PASCAL VOC server takes
"""

import argparse
import os
from typing import Optional

from mmseg_more.engine import launch
from mmseg_more.engine.command_line import (
    CommandParser,
    add_config_options,
    command,
    pixel_limit,
)
from mmseg_more.engine.sharding import keep_whole
from mmseg_more.evaluation import use_calibration, use_protocols, use_reliability
from mmseg_more.masks import (
    BACKGROUNDS,
    COMPETITIONS,
    SOURCES,
    SPLITS,
    use_pseudo_labels,
    use_voc_export,
)
from mmseg_more.models.structures import POLICIES

PURPOSES = ('pseudo_labels', 'protocols', 'reliability', 'export_voc', 'calibrate')
# option -> the purposes that know it
MASK_OPTIONS = {
    'source': ('pseudo_labels', 'reliability'),
    'classes': ('pseudo_labels', 'reliability'),
    'soft_maps': ('pseudo_labels',),
    'confidence_maps': ('pseudo_labels',),
    'fit_confidence': ('reliability',),
    'competition': ('export_voc',),
    'calibration': ('pseudo_labels', 'protocols', 'reliability'),
    'background': ('pseudo_labels', 'protocols', 'reliability'),
    'num_images': ('calibrate',),
    'split': ('pseudo_labels', 'export_voc', 'calibrate'),
    'single_scale': ('pseudo_labels', 'export_voc', 'reliability'),
    'crf': ('pseudo_labels', 'export_voc', 'reliability'),
    'crf_timeout': ('pseudo_labels', 'export_voc', 'reliability'),
    'max_pixels': ('pseudo_labels', 'export_voc', 'reliability'),
    'crf_workers': ('pseudo_labels', 'export_voc', 'protocols', 'reliability'),
}


def parse_args() -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='train config file path')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--work-dir',
        help='if specified, the evaluation metric results will be dumped into the '
        'directory as json',
    )
    parser.add_argument(
        '--out', help='the directory to save output predictions for offline evaluation'
    )
    parser.add_argument('--show', action='store_true', help='show prediction results')
    parser.add_argument('--show-dir', help='directory where painted images will be saved')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='the interval of show (s)'
    )
    add_config_options(
        parser,
        help='override some settings in the used config, the key-value pair in xxx=yyy '
        'format will be merged into config file (see tools/train.py --help)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument('--tta', action='store_true', help='test time augmentation')
    # torch.distributed.launch passes --local-rank, torchrun the environment variable
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    _add_mask_options(parser)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    launch.check_checkpoint(args.checkpoint)
    args.cfg = launch.load_config(
        args.config, args.cfg_options, args.launcher, args.work_dir
    )
    _apply(args)
    launch.prepare_machine(args.cfg)
    return args


def _apply(args: argparse.Namespace) -> None:
    cfg = args.cfg
    cfg.load_from = args.checkpoint
    keep_whole(cfg)
    launch.require_whole_checkpoint(cfg)
    if args.show or args.show_dir:
        launch.show_predictions(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        launch.use_tta(cfg)
    purpose = _purpose(args)
    if args.out is not None:
        if purpose is not None:
            raise ValueError(
                '--out belongs to the usual evaluation, which '
                f'{_flag(purpose)} replaces: leave one of them out'
            )
        launch.set_output_dir(cfg, args.out)
    _apply_mask_options(args, purpose)


def _purpose(args: argparse.Namespace) -> Optional[str]:
    """What there is to be instead of the usual evaluation."""
    return next((name for name in PURPOSES if getattr(args, name) is not None), None)


def _flag(name: str) -> str:
    return '--' + name.replace('_', '-')


def _add_mask_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('masks and their figures')
    purpose = group.add_mutually_exclusive_group()
    purpose.add_argument(
        '--pseudo-labels',
        metavar='DIR',
        help='write a mask for each image into DIR, and no figures; what is there '
        'already is not made again',
    )
    purpose.add_argument(
        '--protocols',
        nargs='?',
        const='',
        metavar='JSON',
        help='one table of CAM, LAM, fused map and segmentation: raw, multi-scale, and '
        'multi-scale with CRF; the figures go to the JSON file as well',
    )
    purpose.add_argument(
        '--reliability',
        metavar='JSON',
        help='score the confidence of the masks that --pseudo-labels would write: '
        'calibration and error against rejection; figures and diagrams go to the JSON file',
    )
    purpose.add_argument(
        '--export-voc',
        metavar='FILE',
        help='write the results tree for the PASCAL VOC server (.zip, .tar.gz, .tgz)',
    )
    purpose.add_argument(
        '--calibrate',
        metavar='FILE',
        help='choose the background threshold of CAM, LAM and fused map from image labels '
        'and the model alone, and write them into FILE (JSON)',
    )
    group.add_argument(
        '--calibration',
        metavar='FILE',
        help='take what FILE holds: the thresholds that --calibrate has chosen, without '
        'and with CRF, and the curves of confidence that --fit-confidence has fitted',
    )
    group.add_argument(
        '--background',
        choices=BACKGROUNDS,
        help='what the CRF takes for the background of a map: 1 - its maximum, or with '
        'the threshold moved to .5 (default: calibrated with --calibration, else '
        'complement)',
    )
    group.add_argument(
        '--num-images',
        type=int,
        metavar='N',
        help='images that --calibrate looks at, spread over the split (default: 300)',
    )
    group.add_argument(
        '--competition',
        choices=COMPETITIONS,
        help='of the VOC server: comp5 for training on its own data alone, comp6 for '
        'any data (default: comp6)',
    )
    group.add_argument(
        '--source',
        choices=SOURCES,
        help='what the masks are made of (default: lam; of --reliability lam and seg)',
    )
    group.add_argument('--crf', action='store_true', help='refine the masks by a dense CRF')
    group.add_argument(
        '--single-scale',
        action='store_true',
        help='masks of scale 1 in place of the multi-scale ones',
    )
    group.add_argument(
        '--classes',
        choices=POLICIES,
        help='which classes a mask may show (default: image-labels; of seg all, '
        'where the data have no labels)',
    )
    group.add_argument(
        '--soft-maps',
        action='store_true',
        help='write the maps beside the pseudo labels, at a quarter of the size',
    )
    group.add_argument(
        '--confidence-maps',
        action='store_true',
        help='write confidence/NAME.png beside the pseudo labels: the confidence of each '
        'pixel x 255',
    )
    group.add_argument(
        '--fit-confidence',
        metavar='FILE',
        help='fit the curves that calibrate confidence to the masks of --reliability, and '
        'write them into FILE; the thresholds that it holds make the masks, and stay',
    )
    group.add_argument(
        '--split',
        choices=SPLITS,
        help='whose images get masks: those of {train,val,test}_dataloader, all seen '
        'through the test pipeline (default: test; of --calibrate train)',
    )
    group.add_argument(
        '--crf-workers',
        type=int,
        metavar='N',
        help='processes for the CRF (default: one per core; 0: none)',
    )
    group.add_argument(
        '--crf-timeout',
        type=float,
        metavar='SECONDS',
        help='an image whose CRF takes longer in such a process fails alone '
        '(default: 3600)',
    )
    group.add_argument(
        '--max-pixels',
        type=pixel_limit,
        metavar='N',
        help='images of more pixels are worked on at a lower size, and their masks come '
        'back to the full one; none: no limit (default: 1000000)',
    )


def _apply_mask_options(args: argparse.Namespace, purpose: Optional[str]) -> None:
    for option, purposes in MASK_OPTIONS.items():
        value = getattr(args, option)
        if value not in (None, False) and purpose not in purposes:
            flags = ' or '.join(_flag(name) for name in purposes)
            raise ValueError(f'{_flag(option)} belongs to {flags}')
    # What was not given is left to the defaults of MaskRecipe.
    given = dict(
        source=args.source,
        policy=args.classes,
        competition=args.competition,
        split=args.split,
        num_workers=args.crf_workers,
        crf_timeout=args.crf_timeout,
        crf=args.crf or None,
        soft_maps=args.soft_maps or None,
        confidence_maps=args.confidence_maps or None,
        fit_confidence=args.fit_confidence,
        multi_scale=False if args.single_scale else None,
        calibration=args.calibration,
        background=args.background,
        num_images=args.num_images,
    )
    given = {name: value for name, value in given.items() if value is not None}
    if args.max_pixels is not None:
        given['max_pixels'] = args.max_pixels.value
    if purpose == 'pseudo_labels':
        use_pseudo_labels(args.cfg, args.pseudo_labels, **given)
    elif purpose == 'export_voc':
        use_voc_export(args.cfg, args.export_voc, **given)
    elif purpose == 'protocols':
        use_protocols(args.cfg, args.protocols or None, **given)
    elif purpose == 'reliability':
        source = given.pop('source', None)
        sources = None if source is None else (source,)
        use_reliability(args.cfg, args.reliability, sources, **given)
    elif purpose == 'calibrate':
        use_calibration(args.cfg, args.calibrate, **given)


@command
def main() -> None:
    launch.build_runner(parse_args().cfg, keep_copy=True).test()
    launch.finish()


if __name__ == '__main__':
    main()
