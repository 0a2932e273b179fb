"""Masks with the dense CRF: images per second, memory and bytes, beside the plain way.

    python benchmarks/masks.py configs/more/more_vit-t_shapes.py \
        work_dirs/more_vit-t_shapes/iter_1400.pth --json masks.json
    python benchmarks/masks.py configs/more/more_vit-b_voc.py      # images of noise alone

With a checkpoint, on the test data of the config (LAM masks, and masks of the
segmentation); and on images of noise of 500x375 pixels with 21 classes, the worst case for
the CRF. There the network runs with random weights, for its time, and the probabilities are
drawn to look like those of a trained segmentation: smooth, the background and three classes
strong, the others weak.

In one run on the same images: the plain way (one process, network and CRF in turns, all
classes, on the CPU) and the product's (``MaskMaker``: worker processes refine while the
network goes on, or a GPU refines as well, weak classes left out), the pipeline. Keys of the
JSON file, for each kind of image, times in seconds per image, memory in MB (2^20 bytes):

* ``network_s``: reading, network and maps at all scales; ``crf_all_s``, ``crf_s``: CRF in
  one process with all classes, and without the weak ones;
* ``plain_s``, ``masks_s``: plain way and pipeline, masks written (``plain_images_per_s``,
  ``images_per_s``);
* ``ratio``: masks_s / ``bound_s``, the larger of network_s and crf_s / ``workers`` (their
  sum where there are no workers: on a GPU, or with --workers 0);
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
from typing import Any, Dict, Iterable, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
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
from mmseg_more.engine.command_line import add_config_options
from mmseg_more.files import palette_png, write_bytes
from mmseg_more.masks import (
    BACKENDS,
    CLASS_EPSILON,
    SOURCES,
    ClassProbabilities,
    MadeMask,
    MaskMaker,
    MaskRecipe,
    dense_crf_mask,
    usable_cores,
)

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
# For the measurement of memory: enough for some to wait.
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


def mask_recipe(source: str, epsilon: float, backend: str) -> MaskRecipe:
    """Masks of maps (of the image's labels) or of the segmentation (of all classes)."""
    recipe = MaskRecipe(source, crf=dict(epsilon=epsilon, backend=backend))
    return recipe.resolve(localizes=True, with_labels=source != 'seg')


def measure_masks(
    source: ImageSource,
    recipe: MaskRecipe,
    device: torch.device,
    num_workers: Optional[int] = None,
) -> Dict[str, Any]:
    """Measure both ways on the same images, one after the other.

    Args:
        source: The images.
        recipe: How the pipeline makes masks, resolved and with CRF.
        device: Of the network.
        num_workers: CRF processes; None for one per usable core.

    Returns:
        What the head of this file documents.
    """
    workers = usable_cores() if num_workers is None else num_workers
    if device.type != 'cpu' and recipe.crf['backend'] != 'pydensecrf':
        workers = 0
    next(source())  # warm up
    plain = _run_plain(source(), recipe, device)
    with MaskMaker(recipe, workers) as maker:
        masks_s, written = _run_pipeline(maker, source())
    masks_s /= plain.num_images
    plain_peak_mb, peak_mb = _peaks(source, recipe, device, workers)
    wall, cpu = (
        {name: seconds / plain.num_images for name, seconds in sums.items()}
        for sums in (plain.clock.wall, plain.clock.cpu)
    )
    plain_s = wall['network'] + wall['crf_all'] + wall['write']
    if workers:
        bound_s = max(wall['network'], wall['crf'] / workers)
    else:
        bound_s = wall['network'] + wall['crf']
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
        work_s = cpu['network'] + cpu['crf'] + cpu['write']
        figures['cores_bound_s'] = max(bound_s, work_s / max(1, workers))
        figures['cores_ratio'] = masks_s / figures['cores_bound_s']
    return figures


def _peaks(
    source: ImageSource, recipe: MaskRecipe, device: torch.device, workers: int
) -> Tuple[float, float]:
    """Peak memory of the plain way and of the pipeline, in MB.

    To sample the memory of processes holds them up: these runs are for nothing else.
    """
    few, host = _IMAGES_PER_WORKER * max(1, workers), torch.device('cpu')
    release_memory(device)
    with MemoryMeter(host, interval=0.05, children=True) as plain:
        _run_plain(islice(source(), few), recipe, device)
    release_memory(device)
    with (
        MemoryMeter(host, interval=0.05, children=True) as pipeline,
        MaskMaker(recipe, workers) as maker,
    ):
        _run_pipeline(maker, islice(source(), few))
    return plain.peak_mb, pipeline.peak_mb


def _probabilities(recipe: MaskRecipe, image: MaskImage) -> ClassProbabilities:
    return recipe.probabilities(image.sample, recipe.allowed(image.sample))


def _run_pipeline(maker: MaskMaker, images: Iterable[MaskImage]) -> Tuple[float, int]:
    """The network while the CRF works; seconds, and bytes of the masks."""
    with tempfile.TemporaryDirectory() as folder:

        def write(masks: Sequence[MadeMask]) -> None:
            for made in masks:
                if made.error is not None:
                    raise RuntimeError(made.error)
                _write(folder, made.payload, made.mask)

        start = time.perf_counter()
        for number, image in enumerate(images):
            probabilities = _probabilities(maker.recipe, image)
            write(maker.add(image.name, probabilities, lambda i=image: i.pixels, number))
        write(maker.drain())
        seconds = time.perf_counter() - start
        return seconds, sum(path.stat().st_size for path in Path(folder).iterdir())


def _run_plain(
    images: Iterable[MaskImage], recipe: MaskRecipe, device: torch.device
) -> _Plain:
    """One process, one stage after the other; the CRF also without weak classes."""
    epsilon, backend = recipe.crf['epsilon'], recipe.crf['backend']
    different, channels, kept, number = 0.0, 0, 0, 0
    clock = _Clock(device)
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(images, 1):
            allowed = _probabilities(recipe, image)
            clock.stage('network')
            everything = _of_all_classes(allowed, image.num_classes)
            mask, _ = dense_crf_mask(
                image.pixels, *everything, epsilon=0.0, backend=backend
            )
            clock.stage('crf_all')
            channels += len(everything.probs)
            _write(folder, number, mask)
            clock.stage('write')
            pruned, _ = dense_crf_mask(
                image.pixels, *allowed, epsilon=epsilon, backend=backend
            )
            clock.stage('crf')
            kept += len(allowed.without_weak(epsilon).labels)
            different += (mask != pruned).mean()
            clock.stage('comparison')
    return _Plain(number, clock, different / number, channels / number, kept / number)


def _of_all_classes(allowed: ClassProbabilities, num_classes: int) -> ClassProbabilities:
    """On the CPU, with channels of probability 0 for the classes that may not appear."""
    probs = torch.zeros(num_classes + 1, *allowed.probs.shape[1:])
    probs[allowed.labels.cpu()] = allowed.probs.cpu()
    return ClassProbabilities(probs, torch.arange(num_classes + 1))


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
        choices=SOURCES,
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
        '--backend', default='auto', choices=BACKENDS, help='what runs the CRF'
    )
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='device of the network',
    )
    parser.add_argument('--json', help='JSON file to write')
    add_config_options(parser)
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
        load_checkpoint(model, args.checkpoint, map_location='cpu', logger='current')
    for source in args.sources:
        recipe = mask_recipe(source, args.epsilon, args.backend)
        images = test_images(args.cfg, model, recipe, args.limit)
        figures[source] = measure_masks(images, recipe, device, args.workers)
    if args.noise:
        recipe = mask_recipe('seg', args.epsilon, args.backend)
        size = tuple(args.noise_size)
        images = noise_images(args.cfg, device, recipe, args.noise, size)
        figures['noise'] = measure_masks(images, recipe, device, args.workers)
    return figures


def main(argv: Optional[Sequence[str]] = None) -> None:
    with report.quiet():
        args = parse_args(argv)
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
