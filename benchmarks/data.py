"""Samples per second that a config's training pipeline gives, per worker.

    python benchmarks/data.py configs/more/more_vit-b_voc.py --json data.json

JPEG images of 500 x 375 are written to a temporary folder, then decoded and augmented by
the pipeline of ``train_dataloader``. Keys of the JSON file:

* ``samples_per_s``: by number of worker processes, with nobody else at work;
* ``samples_per_s_per_worker``: of the smallest number of them;
* ``need``: images per second of the training (--need), ``workers_needed`` for that (if each
  has a core: ``cores`` says how many this machine has);
* ``transforms_s``: seconds per sample of each transform in one thread, ``sample_s`` their
  sum.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report
from benchmarks.common.workload import random_images
from mmseg_more.engine import launch

from mmseg.registry import DATASETS

_FOLDER, _LABELS = 'images', 'labels.json'


def write_images(
    root: str,
    count: int,
    size: Tuple[int, int] = (375, 500),
    num_classes: int = 20,
    seed: int = 0,
) -> float:
    """Write JPEG images with an image label each below ``root``.

    Returns:
        Mean size of a file in kB; PASCAL VOC's have about 100.
    """
    folder = Path(root, _FOLDER)
    folder.mkdir(parents=True)
    generator, labels, total = torch.Generator().manual_seed(seed), {}, 0
    for index in range(count):
        image = random_images(1, size, generator)[0].permute(1, 2, 0).numpy()
        path = folder / f'{index:06d}.jpg'
        Image.fromarray(image).save(path, quality=95)
        total += path.stat().st_size
        labels[path.stem] = [_class_name(index % num_classes)]
    Path(root, _LABELS).write_text(json.dumps(labels), encoding='utf-8')
    return total / count / 1000


def _class_name(index: int) -> str:
    return f'class {index}'


def dataset_config(cfg: Config, root: str) -> dict:
    """The training pipeline of ``cfg`` on the images that :func:`write_images` wrote."""
    names = [_class_name(index) for index in range(cfg.model.num_classes)]
    return dict(
        type='ImageLevelDataset',
        data_root=root,
        data_prefix=dict(img_path=_FOLDER),
        label_file=_LABELS,
        metainfo=dict(classes=('background', *names)),
        pipeline=cfg.train_dataloader.dataset.pipeline,
    )


def _transform_name(transform: Any) -> str:
    name = type(transform).__name__
    inner = getattr(transform, 'transforms', None)  # RandomApply
    if inner is None:
        return name
    inner = getattr(inner, 'transforms', inner)  # a Compose or a list of transforms
    return f'{name}({", ".join(type(t).__name__ for t in inner)})'


def time_transforms(dataset_cfg: dict, samples: int) -> Dict[str, float]:
    """Seconds per sample and transform, in this process, as in a worker.

    Every process of a data loader computes with one thread; so does this.
    """
    dataset = DATASETS.build(dataset_cfg)
    transforms = dataset.pipeline.transforms
    times = [0.0] * len(transforms)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        for index in range(-1, samples):  # the first one sets things up
            results = dataset.get_data_info(index % len(dataset))
            for position, transform in enumerate(transforms):
                start = time.perf_counter()
                results = transform(results)
                if index >= 0:
                    times[position] += time.perf_counter() - start
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    return {
        f'{position + 1} {_transform_name(transform)}': value / samples
        for position, (transform, value) in enumerate(zip(transforms, times))
    }


def loader_rate(
    dataset_cfg: dict, workers: int, samples: int, batch_size: int = 4
) -> float:
    """Samples per second of a data loader that is never waited with.

    Args:
        dataset_cfg: Config of the dataset.
        workers: Processes, at least 1.
        samples: How many are timed, after all workers have started.
        batch_size: Samples per batch.
    """
    loader = Runner.build_dataloader(
        dict(
            batch_size=batch_size,
            num_workers=workers,
            persistent_workers=True,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            dataset=dataset_cfg,
        )
    )
    batches = iter(loader)
    # what the workers have made ahead does not count
    ahead = workers * loader.prefetch_factor
    for _ in range(ahead):
        next(batches)
    rounds = max(math.ceil(samples / batch_size), 2 * ahead)
    start = time.perf_counter()
    for _ in range(rounds):
        next(batches)
    rate = rounds * batch_size / (time.perf_counter() - start)
    del batches  # ends the workers
    return rate


def measure(
    cfg: Config,
    root: str,
    workers: Sequence[int],
    samples: int,
    need: float,
    batch_size: int = 4,
) -> Dict[str, Any]:
    """What the head of this file documents.

    Args:
        cfg: Config with ``train_dataloader.dataset.pipeline``.
        root: Folder that :func:`write_images` has filled.
        workers: Numbers of worker processes to measure.
        samples: Samples per measurement.
        need: Images per second that the training takes.
        batch_size: Samples per batch.
    """
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    dataset_cfg = dataset_config(cfg, root)
    transforms = time_transforms(dataset_cfg, samples)
    rates = {
        count: loader_rate(dataset_cfg, count, samples, batch_size) for count in workers
    }
    per_worker = rates[min(rates)] / min(rates)
    return dict(
        samples_per_s={str(count): rate for count, rate in rates.items()},
        samples_per_s_per_worker=per_worker,
        need=need,
        workers_needed=math.ceil(need / per_worker),
        transforms_s=transforms,
        sample_s=sum(transforms.values()),
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, 'sched_getaffinity')
        else os.cpu_count(),
    )


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
        kilobytes = write_images(
            root, args.num_images, tuple(args.image_size), args.cfg.model.num_classes
        )
        figures = dict(
            config=args.config,
            image_size=args.image_size,
            kb_per_image=kilobytes,
            **measure(args.cfg, root, sorted(args.workers), args.samples, args.need),
        )
    report.write_json(args.json, figures)
    show(figures)


if __name__ == '__main__':
    main()
