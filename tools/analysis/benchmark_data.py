"""Samples per second that a config's training pipeline gives, per worker.

    python tools/analysis/benchmark_data.py configs/more/more_vit-b_voc.py --json data.json

JPEG images of 500 x 375 are written to a temporary folder, then decoded and augmented by
the pipeline of ``train_dataloader``. Keys of the JSON file:

* ``samples_per_s``: by number of worker processes, with nobody else at work;
* ``samples_per_s_per_worker``: of the smallest number of them;
* ``need``: images per second of the training (--need), ``workers_needed`` for that (if each
  has a core: ``cores`` says how many this machine has);
* ``transforms_s``: seconds per sample of each transform in one thread, ``sample_s`` their sum.
"""

import argparse
import tempfile
from typing import Dict, Optional, Sequence

from mmseg_more.benchmark import data, report
from mmseg_more.engine import launch


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config with the training pipeline')
    parser.add_argument(
        '--workers', type=int, nargs='+', default=(1, 2), help='worker processes to try'
    )
    parser.add_argument(
        '--need', type=float, default=20.0, help='images per second of the training'
    )
    parser.add_argument('--samples', type=int, default=200, help='samples per measurement')
    parser.add_argument(
        '--num-images', type=int, default=50, help='different images to write'
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=(375, 500),
        metavar=('H', 'W'),
        help='size of the images in pixels',
    )
    parser.add_argument('--json', '--out', dest='json', help='JSON file to write')
    args = parser.parse_args(argv)
    for name in ('samples', 'num_images', 'need'):
        if getattr(args, name) <= 0:
            parser.error(
                f'--{name.replace("_", "-")} must be positive, got {getattr(args, name)}'
            )
    if min(*args.workers, *args.image_size) < 1:
        parser.error('--workers and --image-size must be at least 1')
    try:
        args.cfg = launch.load_config(args.config)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    return args


def show(figures: Dict) -> None:
    """Print the tables."""
    total = figures['sample_s']
    print(
        report.table(
            ('transform', 'ms per sample', 'share'),
            [
                (name, 1000 * value, f'{value / total:.0%}')
                for name, value in figures['transforms_s'].items()
            ],
        )
    )
    print(report.table(('workers', 'samples/s'), figures['samples_per_s'].items()))
    print(
        '{samples_per_s_per_worker:.4g} samples/s per worker: {need:g} images/s need '
        '{workers_needed} workers, with a core each (this machine has {cores}).'.format(
            **figures
        )
    )


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as root, report.quiet():
        kilobytes = data.write_images(
            root, args.num_images, tuple(args.image_size), args.cfg.model.num_classes
        )
        figures = dict(
            config=args.config,
            image_size=args.image_size,
            kb_per_image=kilobytes,
            **data.measure(args.cfg, root, sorted(args.workers), args.samples, args.need),
        )
    report.write_json(args.json, figures)
    show(figures)


if __name__ == '__main__':
    main()
