"""Masks with the dense CRF: images per second, memory and bytes, beside the plain way.

    python tools/analysis/benchmark_masks.py configs/more/more_vit-t_shapes.py \
        work_dirs/more_vit-t_shapes/iter_1650.pth --json masks.json

On the test data of the config (LAM masks, and masks of the segmentation), and on images of
noise of 500x375 pixels with 21 classes, the worst case for the CRF. There the network runs
with random weights, for its time, and the probabilities are drawn to look like those of a
trained segmentation: smooth, the background and three classes strong, the others weak.

In one run on the same images: the plain way (one process, network and CRF in turns, all
classes) and the pipeline (worker processes refine while the network goes on, weak classes
left out). Keys of the JSON file, for each kind of image, times in seconds per image, memory
in MB (2^20 bytes):

* ``network_s``: reading, network and maps at all scales; ``crf_all_s``, ``crf_s``: CRF in
  one process with all classes, and without the weak ones;
* ``plain_s``, ``masks_s``: plain way and pipeline, masks written (``plain_images_per_s``,
  ``images_per_s``);
* ``ratio``: masks_s / ``bound_s``, the larger of network_s and crf_s / ``workers``;
  ``cores_ratio`` (CPU): masks_s / ``cores_bound_s``, the CPU seconds of network and CRF
  over as many cores, which the network needs as well there;
* ``plain_peak_mb``, ``peak_mb``: processes and libraries, shared pages counted once, in runs
  of their own over the first images;
* ``bytes_per_image``: what is written, a palette PNG and nothing else;
* ``channels``, ``channels_kept``: classes in the CRF, plain and pipeline;
* ``different_percent``: pixels whose label that changes.
"""

import argparse
from typing import Any, Dict, Optional, Sequence

import torch
from mmengine.config import DictAction
from mmengine.runner import load_checkpoint

from mmseg_more.benchmark import report
from mmseg_more.benchmark.mask_images import noise_images, test_images
from mmseg_more.benchmark.masks import measure_masks
from mmseg_more.benchmark.workload import adapt_config, build_model
from mmseg_more.engine import launch
from mmseg_more.masks import CLASS_EPSILON

ROWS = dict(
    images='images',
    plain_images_per_s='images/s, plain way',
    images_per_s='images/s, pipeline',
    network_s='s: network',
    crf_all_s='s: CRF, all classes',
    crf_s='s: CRF, weak classes left out',
    plain_s='s: plain way',
    masks_s='s: pipeline',
    ratio='pipeline / max(network, CRF / workers)',
    cores_ratio='pipeline / CPU time of both / workers',
    plain_peak_mb='peak MB, plain way',
    peak_mb='peak MB, pipeline',
    bytes_per_image='bytes written per image',
    channels='classes, plain way',
    channels_kept='classes, pipeline',
    different_percent='% of labels that differ',
)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('config', help='config of the model and its test data')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--sources',
        nargs='*',
        default=['lam', 'seg'],
        choices=['cam', 'lam', 'fused', 'seg'],
        help='what the masks of the test data are made of; none: leave them out',
    )
    parser.add_argument('--limit', type=int, help='test images at most')
    parser.add_argument(
        '--noise', type=int, default=50, help='images of noise; 0: leave them out'
    )
    parser.add_argument(
        '--noise-size',
        type=int,
        nargs=2,
        default=[375, 500],
        metavar=('H', 'W'),
        help='their size',
    )
    parser.add_argument('--workers', type=int, help='CRF processes; None: one per core')
    parser.add_argument(
        '--epsilon',
        type=float,
        default=CLASS_EPSILON,
        help='classes below this probability are left out',
    )
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='device of the network',
    )
    parser.add_argument('--json', help='JSON file to write')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override some settings in the used config',
    )
    args = parser.parse_args(argv)
    if args.noise < 0 or (args.limit is not None and args.limit < 1):
        parser.error('--noise must not be negative and --limit be at least 1')
    try:
        launch.check_checkpoint(args.checkpoint)
        args.cfg = launch.load_config(args.config, args.cfg_options)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    return args


def measure(args: argparse.Namespace) -> Dict[str, Any]:
    """Figures by kind of image."""
    device = torch.device(args.device)
    figures: Dict[str, Any] = {}
    if args.sources:
        model = build_model(adapt_config(args.cfg), device).eval()
        load_checkpoint(model, args.checkpoint, map_location='cpu')
        for source in args.sources:
            figures[source] = measure_masks(
                test_images(args.cfg, model, source, args.limit),
                device,
                args.workers,
                args.epsilon,
            )
    if args.noise:
        figures['noise'] = measure_masks(
            noise_images(args.cfg, device, args.noise, tuple(args.noise_size)),
            device,
            args.workers,
            args.epsilon,
        )
    return figures


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    report.quiet()
    figures = measure(args)
    machine = report.machine(torch.device(args.device))
    report.write_json(
        args.json, dict(config=args.config, epsilon=args.epsilon, **machine, masks=figures)
    )
    names = {name: 'noise' if name == 'noise' else f'test data, {name}' for name in figures}
    workers = max(value['workers'] for value in figures.values())
    print(
        f'{args.config}, {machine["device_name"]}, {machine["threads"]} threads, '
        f'{workers} CRF workers, classes below {args.epsilon:g} left out'
    )
    print(
        report.table(
            ('per image', *names.values()),
            [
                (title, *(value.get(key) for value in figures.values()))
                for key, title in ROWS.items()
            ],
        )
    )


if __name__ == '__main__':
    main()
