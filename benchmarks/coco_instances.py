"""Time and memory of COCO's instances file: read in passing, read as a whole, drawn.

    python benchmarks/coco_instances.py --json coco.json

Writes a made-up file with as many images and annotations as ``instances_val2014.json``, or
fewer (--num-images), to a temporary folder. Times are CPU seconds, which other processes
leave as they are. Keys of the JSON file:

* ``file_mb``, ``annotations``: of that file; MB are 2^20 bytes;
* ``read_s``, ``read_mb``: ``read_instances``, and what the process holds more at its peak;
* ``whole_s``, ``whole_mb``: ``json.load``, likewise;
* ``draw_s``: drawing and writing one mask in one process.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report
from benchmarks.common.memory import MemoryMeter, release_memory
from mmseg_more.datasets.preparation.coco14 import CLASSES, draw_masks
from mmseg_more.datasets.preparation.coco_instances import read_instances

SIZE = (480, 640)
NUM_IMAGES = 40504  # of val2014
ANNOTATIONS_PER_IMAGE = 7.2  # likewise
CROWDS = 0.01  # share of the annotations
DRAWN_IMAGES = 300
CPU = torch.device('cpu')


def random_annotation(rng: np.random.Generator) -> Dict[str, Any]:
    """An outline of some thirty points, or a crowd of some three hundred runs."""
    height, width = SIZE
    if rng.random() < CROWDS:
        ends = np.sort(rng.integers(0, height * width, 300))
        counts = np.diff(ends, prepend=0, append=height * width)
        return dict(iscrowd=1, segmentation=dict(counts=counts.tolist(), size=list(SIZE)))
    angles = np.sort(rng.random(4 + int(rng.gamma(2, 12)))) * 2 * np.pi
    radii = (4 + rng.gamma(1.5, 40)) * rng.uniform(0.7, 1, len(angles))
    x = np.clip(rng.uniform(0, width) + radii * np.cos(angles), 0, width)
    y = np.clip(rng.uniform(0, height) + radii * np.sin(angles), 0, height)
    outline = np.stack([x, y], axis=1).round(2).ravel().tolist()
    return dict(iscrowd=0, segmentation=[outline])


def write_instances(path: Path, num_images: int, seed: int = 0) -> int:
    """Write a made-up instances file.

    Returns:
        int: Number of annotations.
    """
    rng = np.random.default_rng(seed)
    height, width = SIZE
    num_annotations = int(num_images * ANNOTATIONS_PER_IMAGE)
    images = (
        dict(id=i, file_name=f'COCO_val2014_{i:012d}.jpg', height=height, width=width)
        for i in range(num_images)
    )
    annotations = (
        dict(
            random_annotation(rng),
            id=i,
            image_id=int(rng.integers(num_images)),
            category_id=int(rng.integers(len(CLASSES))),
            area=1.0,
            bbox=[0.0, 0.0, 1.0, 1.0],
        )
        for i in range(num_annotations)
    )
    categories = (dict(id=i, name=name) for i, name in enumerate(CLASSES))
    with open(path, 'w', encoding='utf-8') as file:
        opening = '{'
        for key, entries in (
            ('images', images),
            ('annotations', annotations),
            ('categories', categories),
        ):
            file.write(f'{opening}"{key}": [')
            for number, entry in enumerate(entries):
                file.write(', ' * (number > 0) + json.dumps(entry))
            opening = '], '
        file.write(']}')
    return num_annotations


def time_and_memory(function: Callable[[], Any]) -> Tuple[float, float]:
    """CPU seconds of a call, and MB that this process holds more at its peak."""
    release_memory(CPU)
    with MemoryMeter(CPU, interval=0.02) as meter:
        start = time.process_time()
        function()
        seconds = time.process_time() - start
    return seconds, meter.peak_mb - meter.samples[0][1] / 2**20


def read_whole(path: Path) -> Any:
    """What a program does that does not mind memory."""
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def measure(folder: Path, num_images: int) -> Dict[str, Any]:
    """What the head of this file documents."""
    path = folder / 'instances_val2014.json'
    annotations = write_instances(path, num_images)
    read_s, read_mb = time_and_memory(lambda: read_instances(path, CLASSES))
    whole_s, whole_mb = time_and_memory(lambda: read_whole(path))
    images = read_instances(path, CLASSES)[:DRAWN_IMAGES]
    start = time.process_time()
    draw_masks(images, folder / 'masks')
    return dict(
        file_mb=path.stat().st_size / 2**20,
        annotations=annotations,
        read_s=read_s,
        read_mb=read_mb,
        whole_s=whole_s,
        whole_mb=whole_mb,
        draw_s=(time.process_time() - start) / len(images),
    )


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--num-images', type=int, default=NUM_IMAGES)
    parser.add_argument('--json', '--out', dest='json', help='JSON file to write')
    args = parser.parse_args(argv)
    if args.num_images < 1:
        parser.error(f'--num-images must be at least 1, got {args.num_images}')
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.num_images)
    print(report.table(['', 'figure'], figures.items()))
    report.write_json(args.json, figures)


if __name__ == '__main__':
    main()
