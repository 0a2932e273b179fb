"""Time and memory of MoRe's maps at several scales, beside what their arithmetic needs.

    python benchmarks/maps.py configs/more/more_vit-b_voc.py --size 448 --json maps.json

CAM, LAM, fused maps, class scores and segmentation come from one set of passes over image
and flip (``MoRe.predict``); random weights, random images. Keys of the JSON file, times in
seconds per image, memory in MB (2^20 bytes):

* ``maps_s``, ``images_per_s``: maps at all scales (median; ``maps_s_all``: each round);
* ``flops_per_image``: arithmetic of the passes (2 per multiply-add), ``gemm_flops_per_s``:
  rate of matrix products of the ViT's sizes, measured between the rounds,
  ``gemm_bound_s`` = flops / rate, ``ratio`` = maps_s / gemm_bound_s;
* ``separate_s``: the same with passes of their own for LAM, CAM and segmentation, in turns
  with the shared ones; ``shared_to_separate`` = maps_s / separate_s;
* ``peak_mb``, ``base_mb``: as in step.py, of this process.

What becomes of the maps, masks with the dense CRF, is measured by masks.py.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch
from mmengine.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report, workload
from benchmarks.common.flops import shared_passes_flops
from benchmarks.common.gemm import GemmMeter, linear_shapes, synchronize
from benchmarks.common.memory import MemoryMeter, release_memory
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
    def predict(
        self, maps: Sequence[str], scales: Sequence[float], seg_scales: Sequence[float]
    ) -> List[SegDataSample]:
        """One call of the model on the batch."""
        self.model.localization_request = LocalizationRequest(
            maps=tuple(maps),
            cam_scales=(),
            lam_scales=(),
            ms_scales=tuple(scales),
            seg_scales=tuple(seg_scales),
        )
        with workload.autocast(self.dtype, self.device):
            return self.model.test_step(self.data)

    def shared(self) -> List[SegDataSample]:
        """CAM, LAM, fused maps, scores and segmentation from one set of passes."""
        return self.predict(('cam', 'lam', 'fused'), self.scales, self.seg_scales)

    def separate(self) -> None:
        """The same by passes of their own for LAM, CAM and segmentation."""
        self.predict(('lam',), self.scales, ())
        self.predict(('cam',), self.scales, ())
        self.predict((), (), self.seg_scales)

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
    args = parser.parse_args(argv)
    args.cfg = workload.load(parser, args)
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
    report.write_json(args.json, figures)
    show(figures)


if __name__ == '__main__':
    main()
