"""Masks of many images: the pipeline, and the plain way beside it."""

import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Tuple

import numpy as np
import torch

from mmseg.datasets import PascalVOCDataset

from ..files import palette_png, write_bytes
from ..masks import CLASS_EPSILON, CRFJob, DenseCRFPool, dense_crf_mask
from .gemm import synchronize
from .mask_images import ImageSource, MaskImage
from .memory import release_memory
from .process_tree import TreeMeter

_PALETTE = PascalVOCDataset.METAINFO['palette']


class _Clock:
    """Wall-clock and CPU seconds of stages that take turns."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wall: Dict[str, float] = {}
        self.cpu: Dict[str, float] = {}
        self._start = time.perf_counter(), time.process_time()

    def stage(self, name: str) -> None:
        """What has passed since the last call was ``name``."""
        synchronize(self.device)
        now = time.perf_counter(), time.process_time()
        for sums, end, start in zip((self.wall, self.cpu), now, self._start):
            sums[name] = sums.get(name, 0.0) + end - start
        self._start = now


class _Plain(NamedTuple):
    """The plain way, in sums over the images."""

    num_images: int
    clock: _Clock
    different: float
    """Share of pixels that the classes left out change, mean over the images."""
    num_channels: float
    """Channels of the CRF, all and without those left out, mean per image."""
    num_kept: float


def measure_masks(
    source: ImageSource,
    device: torch.device,
    num_workers: Optional[int] = None,
    epsilon: float = CLASS_EPSILON,
) -> Dict[str, Any]:
    """Measure both ways on the same images, one after the other.

    Args:
        source: The images.
        device: Of the network.
        num_workers: CRF processes; None for one per usable core.
        epsilon: Classes below this probability are left out in the pipeline.

    Returns:
        What ``tools/analysis/benchmark_masks.py`` documents.
    """
    next(source())  # warm up
    plain = _run_plain(source(), device, epsilon)
    with DenseCRFPool(num_workers, epsilon=epsilon) as pool:
        workers = max(1, pool.num_workers)
        masks_s, written = _run_pipeline(pool, source())
    # to sample the memory of processes holds them up: runs of its own, long enough for
    # the pool to be full
    few = pool.max_pending + workers
    release_memory(device)
    with TreeMeter() as plain_memory:
        _run_plain(islice(source(), few), device, epsilon)
    release_memory(device)
    with TreeMeter() as memory, DenseCRFPool(num_workers, epsilon=epsilon) as pool:
        _run_pipeline(pool, islice(source(), few))
    wall, cpu = (
        {name: seconds / plain.num_images for name, seconds in sums.items()}
        for sums in (plain.clock.wall, plain.clock.cpu)
    )
    masks_s /= plain.num_images
    plain_s = wall['network'] + wall['crf_all'] + wall['write']
    bound_s = max(wall['network'], wall['crf'] / workers)
    figures = dict(
        images=plain.num_images,
        workers=workers,
        network_s=wall['network'],
        crf_all_s=wall['crf_all'],
        crf_s=wall['crf'],
        plain_s=plain_s,
        masks_s=masks_s,
        plain_images_per_s=1 / plain_s,
        images_per_s=1 / masks_s,
        bound_s=bound_s,
        ratio=masks_s / bound_s,
        plain_peak_mb=plain_memory.peak_mb,
        peak_mb=memory.peak_mb,
        bytes_per_image=written / plain.num_images,
        channels=plain.num_channels,
        channels_kept=plain.num_kept,
        different_percent=100 * plain.different,
    )
    if device.type == 'cpu':
        # the network needs the cores of the workers: all the arithmetic on all cores
        figures['cores_bound_s'] = max(
            bound_s, (cpu['network'] + cpu['crf'] + cpu['write']) / workers
        )
        figures['cores_ratio'] = masks_s / figures['cores_bound_s']
    return figures


def _run_pipeline(pool: DenseCRFPool, images: Iterable[MaskImage]) -> Tuple[float, int]:
    """The network while the CRF works; seconds, and bytes of the masks."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for number, result in enumerate(pool.map(_jobs(images))):
            if result.error is not None:
                raise RuntimeError(result.error)
            _write(folder, number, result.mask)
        seconds = time.perf_counter() - start
        return seconds, sum(path.stat().st_size for path in Path(folder).iterdir())


def _run_plain(images: Iterable[MaskImage], device: torch.device, epsilon: float) -> _Plain:
    """One process, one stage after the other; the CRF also without weak classes."""
    different, channels, kept, number = 0.0, 0, 0, 0
    clock = _Clock(device)
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(images, 1):
            clock.stage('network')
            probs, labels = _arrays(image.all_probabilities())
            mask, _ = dense_crf_mask(image.pixels, probs, labels, epsilon=0.0)
            clock.stage('crf_all')
            channels += len(probs)
            _write(folder, number, mask)
            clock.stage('write')
            probs, labels = _arrays(image.probabilities())
            pruned, _ = dense_crf_mask(image.pixels, probs, labels, epsilon=epsilon)
            clock.stage('crf')
            kept += 1 + int((probs[1:].max((1, 2)) >= epsilon).sum())
            different += (mask != pruned).mean()
            clock.stage('comparison')
    return _Plain(number, clock, different / number, channels / number, kept / number)


def _arrays(probabilities) -> tuple:
    return tuple(value.cpu().numpy() for value in probabilities)


def _jobs(images: Iterable[MaskImage]) -> Iterator[CRFJob]:
    for image in images:
        yield CRFJob(image.name, image.pixels, *_arrays(image.probabilities()))


def _write(folder: str, number: int, mask: np.ndarray) -> None:
    write_bytes(Path(folder, f'{number}.png'), palette_png(mask, _PALETTE))
