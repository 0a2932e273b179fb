"""The data pipeline: samples per second and worker."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from mmseg.registry import DATASETS

from .workload import random_images

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
    """What ``tools/analysis/benchmark_data.py`` documents.

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
