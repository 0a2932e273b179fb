"""Time and memory of MoRe's maps at several scales, and of masks with the dense CRF.

    python benchmarks/maps.py configs/more/more_vit-b_voc.py \
        --size 448 --crf --json maps.json

CAM, LAM, fused maps, class scores and segmentation come from one set of passes over image
and flip (``MoRe.predict``); random weights, random images. Keys of the JSON file, times in
seconds per image, memory in MB (2^20 bytes):

* ``maps_s``, ``images_per_s``: maps at all scales (median; ``maps_s_all``: each round);
* ``flops_per_image``: arithmetic of the passes (2 per multiply-add), ``gemm_flops_per_s``:
  rate of matrix products of the ViT's sizes, measured between the rounds,
  ``gemm_bound_s`` = flops / rate, ``ratio`` = maps_s / gemm_bound_s;
* ``separate_s``: the same with passes of their own for LAM, CAM and segmentation, in turns
  with the shared ones; ``shared_to_separate`` = maps_s / separate_s;
* ``peak_mb``, ``base_mb``: as in step.py, of this process;
* ``crf`` (--crf): LAM masks of the image's classes, on ``images`` images: ``network_s``
  (their maps alone), ``crf_s`` (CRF alone, one image after the other), ``masks_s`` and
  ``images_per_s`` (both, by ``MaskMaker``: ``workers`` processes refine while the network
  goes on, none on a GPU), ``bound_s`` = max(network_s, crf_s / workers), or their sum
  without workers, ``ratio`` = masks_s / bound_s, ``sequential_ratio`` =
  (network_s + crf_s) / masks_s.

Masks of real images, with what they need of memory and disk, are measured by masks.py.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report, workload
from benchmarks.common.flops import shared_passes_flops
from benchmarks.common.gemm import GemmMeter, linear_shapes, synchronize
from benchmarks.common.memory import MemoryMeter, release_memory
from mmseg_more.masks import (
    ClassProbabilities,
    MadeMask,
    MaskMaker,
    MaskRecipe,
    dense_crf_mask,
    usable_cores,
)
from mmseg_more.models.structures import MASK_SCALES, SEG_SCALES, LocalizationRequest

from mmseg.structures import SegDataSample


class MapsBenchmark:
    """A model and one batch of images, ready to be measured.

    Args:
        cfg: Config of the model, see :func:`workload.adapt_config`.
        batch_size: Images per call.
        device: Where to run.
        dtype: One of ``workload.DTYPES``.
        scales: Scales of CAM and LAM, each with its flip.
        seg_scales: Scales of the segmentation, likewise.
        seed: Of weights, images and labels.
    """

    def __init__(
        self,
        cfg: Config,
        batch_size: int,
        device: torch.device,
        dtype: str = 'float32',
        scales: Sequence[float] = MASK_SCALES,
        seg_scales: Sequence[float] = SEG_SCALES,
        seed: int = 0,
    ) -> None:
        self.device, self.dtype, self.batch_size = device, dtype, batch_size
        self.size = workload.image_size(cfg)
        self.scales, self.seg_scales = tuple(scales), tuple(seg_scales)
        workload.set_tf32(dtype)
        release_memory(device)
        with MemoryMeter(device) as memory:
            pass
        self.base_mb = memory.peak_mb  # the libraries; nothing on a GPU
        self.model = workload.build_model(cfg, device, seed).eval()
        self.data = workload.random_batch(self.model, batch_size, self.size, seed)
        self.flops = shared_passes_flops(
            self.model, batch_size, self.size, self.scales, self.seg_scales
        )

    @torch.no_grad()
    def predict(self, request: Optional[LocalizationRequest]) -> List[SegDataSample]:
        """One call of the model on the batch."""
        self.model.localization_request = request
        with workload.autocast(self.dtype, self.device):
            return self.model.test_step(self.data)

    def shared(self) -> List[SegDataSample]:
        """CAM, LAM, fused maps, scores and segmentation from one set of passes."""
        return self.predict(_request(('cam', 'lam', 'fused'), self.scales, self.seg_scales))

    def separate(self) -> None:
        """The same by passes of their own for LAM, CAM and segmentation."""
        self.predict(_request(('lam',), self.scales))
        self.predict(_request(('cam',), self.scales))
        self.predict(_request((), (), self.seg_scales))

    def timed(self, function: Callable[[], Any]) -> float:
        """Seconds that a call takes, per image."""
        synchronize(self.device)
        start = time.perf_counter()
        function()
        synchronize(self.device)
        return (time.perf_counter() - start) / self.batch_size

    def run(self, iters: int, warmup: int = 1) -> Dict[str, Any]:
        """Measure shared passes, and separate passes in turns with them.

        Args:
            iters: Rounds, at least 1.
            warmup: Rounds of shared passes before them.

        Returns:
            What the head of this file documents.
        """
        for _ in range(warmup):
            self.shared()
        release_memory(self.device)
        with MemoryMeter(self.device) as memory:
            self.timed(self.shared)
        gemm = GemmMeter(
            linear_shapes(self.model.backbone, 2 * self.batch_size, self.size),
            workload.compute_dtype(self.dtype),
            self.device,
        )
        shared, separate = [], []
        gemm.measure()
        for _ in range(iters):
            shared.append(self.timed(self.shared))
            gemm.measure()
            separate.append(self.timed(self.separate))
            gemm.measure()
        maps_s, separate_s = statistics.median(shared), statistics.median(separate)
        bound_s = self.flops / gemm.rate / self.batch_size
        return dict(
            maps_s=maps_s,
            images_per_s=1 / maps_s,
            gemm_bound_s=bound_s,
            ratio=maps_s / bound_s,
            separate_s=separate_s,
            shared_to_separate=maps_s / separate_s,
            peak_mb=memory.peak_mb,
            base_mb=self.base_mb,
            gemm_flops_per_s=gemm.rate,
            flops_per_image=self.flops // self.batch_size,
            maps_s_all=shared,
        )

    def run_with_crf(self, batches: int, workers: Optional[int] = None) -> Dict[str, Any]:
        """Measure masks, the CRF working while the network goes on.

        Network alone, CRF alone and both together are measured on as many images, one
        after the other.

        Args:
            batches: Batches of images, at least 1.
            workers: CRF processes; None for one per usable core.

        Returns:
            ``crf`` of what the head of this file documents.
        """
        recipe = MaskRecipe('lam', scales=self.scales, crf=True)
        recipe = recipe.resolve(localizes=True, with_labels=True)
        if self.device.type != 'cpu':
            workers = 0
        elif workers is None:
            workers = usable_cores()
        inputs = list(self._probabilities(recipe))
        dense_crf_mask(inputs[0][0], *inputs[0][1])  # what is set up in a first call

        def network() -> None:
            for _ in range(batches):
                list(self._probabilities(recipe))

        def refine() -> None:
            for image, probabilities in batches * inputs:
                dense_crf_mask(image, *probabilities)

        def both() -> None:
            with MaskMaker(recipe, workers) as maker:
                for _ in range(batches):
                    for image, probabilities in self._probabilities(recipe):
                        _check(maker.add('', probabilities, lambda image=image: image))
                _check(maker.drain())

        network_s, crf_s, masks_s = (
            self.timed(function) / batches for function in (network, refine, both)
        )
        bound_s = max(network_s, crf_s / workers) if workers else network_s + crf_s
        return dict(
            images=batches * self.batch_size,
            workers=workers,
            network_s=network_s,
            crf_s=crf_s,
            masks_s=masks_s,
            images_per_s=1 / masks_s,
            bound_s=bound_s,
            ratio=masks_s / bound_s,
            sequential_ratio=(network_s + crf_s) / masks_s,
        )

    def _probabilities(
        self, recipe: MaskRecipe
    ) -> Iterator[Tuple[np.ndarray, ClassProbabilities]]:
        """Images of the batch, RGB ``(H, W, 3)``, and what the CRF starts from."""
        samples = self.predict(recipe.request())
        for image, sample in zip(self.data['inputs'], samples):
            pixels = image.flip(0).permute(1, 2, 0).contiguous().numpy()
            yield pixels, recipe.probabilities(sample, recipe.allowed(sample))


def _request(
    maps: Sequence[str], scales: Sequence[float], seg_scales: Sequence[float] = ()
) -> LocalizationRequest:
    return LocalizationRequest(
        maps=tuple(maps),
        cam_scales=(),
        lam_scales=(),
        ms_scales=tuple(scales),
        seg_scales=tuple(seg_scales),
    )


def _check(masks: Sequence[MadeMask]) -> None:
    for made in masks:
        if made.error is not None:
            raise RuntimeError(made.error)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    workload.add_arguments(parser, batch_size=1)
    parser.add_argument(
        '--scales',
        type=float,
        nargs='+',
        default=MASK_SCALES,
        help='scales of CAM and LAM, each with its flip',
    )
    parser.add_argument(
        '--seg-scales',
        type=float,
        nargs='*',
        default=SEG_SCALES,
        help='scales of the segmentation; none: without',
    )
    parser.add_argument('--crf', action='store_true', help='also measure maps + CRF')
    parser.add_argument(
        '--crf-workers', type=int, help='CRF processes; default: the usable cores'
    )
    parser.add_argument('--crf-batches', type=int, default=8, help='batches for maps + CRF')
    args = parser.parse_args(argv)
    args.cfg = workload.load(parser, args)
    if args.crf_batches < 1 or (args.crf_workers or 0) < 0:
        parser.error('--crf-batches must be at least 1, --crf-workers not negative')
    return args


def show(figures: Dict) -> None:
    """Print the table."""
    rows = [
        (f'maps, {name} passes', seconds, 1 / seconds, seconds / figures['gemm_bound_s'])
        for name, seconds in (
            ('shared', figures['maps_s']),
            ('separate', figures['separate_s']),
        )
    ]
    print(report.table(('', 's per image', 'images/s', 'x GEMM bound'), rows))
    print(
        'GEMM bound {gemm_bound_s:.4g} s per image ({tflop:.4g} TFLOP at {rate:.4g} '
        'GFLOP/s); peak memory {peak_mb:.0f} MB.'.format(
            tflop=figures['flops_per_image'] / 1e12,
            rate=figures['gemm_flops_per_s'] / 1e9,
            **figures,
        )
    )
    if 'crf' in figures:
        print(
            'maps + CRF: {masks_s:.4g} s per image ({images_per_s:.4g} images/s) with '
            '{workers} workers; network {network_s:.4g} s, CRF {crf_s:.4g} s: {ratio:.3f} '
            'x the bound of {bound_s:.4g} s, {sequential_ratio:.2f} times as fast as one '
            'after the other.'.format(**figures['crf'])
        )


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    device = torch.device(args.device)
    benchmark = MapsBenchmark(
        args.cfg, args.batch_size, device, args.dtype, args.scales, args.seg_scales
    )
    figures = dict(
        config=args.config,
        size=benchmark.size,
        batch_size=args.batch_size,
        dtype=args.dtype,
        scales=benchmark.scales,
        seg_scales=benchmark.seg_scales,
        num_classes=benchmark.model.num_classes,
        iters=args.iters,
        **report.machine(device),
    )
    figures.update(benchmark.run(args.iters, args.warmup))
    if args.crf:
        figures['crf'] = benchmark.run_with_crf(args.crf_batches, args.crf_workers)
    report.write_json(args.json, figures)
    show(figures)


if __name__ == '__main__':
    main()
