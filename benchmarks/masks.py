"""Masks with the dense CRF: images per second, memory and bytes, beside the plain way.

    python benchmarks/masks.py configs/more/more_vit-t_shapes.py \
        work_dirs/more_vit-t_shapes/iter_1650.pth --json masks.json
    python benchmarks/masks.py configs/more/more_vit-b_voc.py      # images of noise alone

With a checkpoint, on the test data of the config (LAM masks, and masks of the
segmentation); and on images of noise of 500x375 pixels with 21 classes, the worst case for
the CRF. There the network runs with random weights, for its time, and the probabilities are
drawn to look like those of a trained segmentation: smooth, the background and three classes
strong, the others weak.

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
* ``plain_peak_mb``, ``peak_mb``: processes and libraries, shared pages counted once, in
  runs of their own over the first images;
* ``bytes_per_image``: what is written, a palette PNG and nothing else;
* ``channels``, ``channels_kept``: classes in the CRF, plain and pipeline;
* ``different_percent``: pixels whose label that changes.
"""

import argparse
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.runner import load_checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report
from benchmarks.common.gemm import synchronize
from benchmarks.common.mask_images import (
    NOISE_SIZE,
    ImageSource,
    MaskImage,
    noise_images,
    test_images,
)
from benchmarks.common.memory import MemoryMeter, release_memory
from benchmarks.common.workload import adapt_config, build_model
from mmseg_more.engine import launch
from mmseg_more.files import palette_png, write_bytes
from mmseg_more.masks import CLASS_EPSILON, CRFJob, DenseCRFPool, dense_crf_mask

from mmseg.datasets import PascalVOCDataset

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
_PALETTE = PascalVOCDataset.METAINFO['palette']
# Images per worker that fill the pool, for the measurement of memory.
_IMAGES_PER_WORKER = 5


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
        What the head of this file documents.
    """
    next(source())  # warm up
    plain = _run_plain(source(), device, epsilon)
    with DenseCRFPool(num_workers, epsilon=epsilon) as pool:
        workers = max(1, pool.num_workers)
        masks_s, written = _run_pipeline(pool, source())
    plain_peak_mb, peak_mb = _peaks(source, device, workers, epsilon)
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
        plain_peak_mb=plain_peak_mb,
        peak_mb=peak_mb,
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


def _peaks(
    source: ImageSource, device: torch.device, workers: int, epsilon: float
) -> Tuple[float, float]:
    """Peak memory of the plain way and of the pipeline, in MB.

    To sample the memory of processes holds them up: these runs are for nothing else, and
    long enough for the pool to be full.
    """
    few, host = _IMAGES_PER_WORKER * workers, torch.device('cpu')
    release_memory(device)
    with MemoryMeter(host, interval=0.05, children=True) as plain:
        _run_plain(islice(source(), few), device, epsilon)
    release_memory(device)
    with (
        MemoryMeter(host, interval=0.05, children=True) as pipeline,
        DenseCRFPool(workers, epsilon=epsilon) as pool,
    ):
        _run_pipeline(pool, islice(source(), few))
    return plain.peak_mb, pipeline.peak_mb


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


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('config', help='config of the model and its test data')
    parser.add_argument(
        'checkpoint', nargs='?', help='checkpoint file; None: images of noise alone'
    )
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
        default=list(NOISE_SIZE),
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
    if args.checkpoint is None:
        args.sources = []
    if not args.sources and not args.noise:
        parser.error('nothing to measure: no checkpoint or no --sources, and --noise 0')
    try:
        if args.sources:
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
    with report.quiet():
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
