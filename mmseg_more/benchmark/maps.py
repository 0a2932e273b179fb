"""Localization maps at several scales, and masks from them: time and memory."""

import statistics
import time
from typing import Any, Dict, List, Optional, Sequence

import torch
from mmengine.config import Config

from mmseg.structures import SegDataSample

from ..masks import map_probabilities
from ..masks.pool import CRFJob, DenseCRFPool
from ..models.structures import MASK_SCALES, SEG_SCALES, LocalizationRequest
from .flops import shared_passes_flops
from .gemm import GemmMeter, linear_shapes, synchronize
from .memory import MemoryMeter, release_memory
from .workload import (
    autocast,
    build_model,
    compute_dtype,
    image_size,
    random_batch,
    set_tf32,
)


def _request(
    maps: Sequence[str], scales: Sequence[float], seg_scales: Sequence[float] = ()
) -> LocalizationRequest:
    return LocalizationRequest(
        tuple(maps),
        cam_scales=(),
        lam_scales=(),
        ms_scales=tuple(scales),
        seg_scales=tuple(seg_scales),
    )


class MapsBenchmark:
    """A model and one batch of images, ready to be measured.

    Args:
        cfg: Config of the model, see :func:`adapt_config`.
        batch_size: Images per call.
        device: Where to run.
        dtype: One of ``DTYPES``.
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
        self.size = image_size(cfg)
        self.scales, self.seg_scales = tuple(scales), tuple(seg_scales)
        set_tf32(dtype)
        release_memory(device)
        with MemoryMeter(device) as memory:
            self.base_mb = memory.take()  # the libraries; nothing on a GPU
        self.model = build_model(cfg, device, seed).eval()
        self.data = random_batch(self.model, batch_size, self.size, seed)
        self.flops = shared_passes_flops(
            self.model, batch_size, self.size, self.scales, self.seg_scales
        )

    @torch.no_grad()
    def predict(self, request: LocalizationRequest) -> List[SegDataSample]:
        """One call of the model on the batch."""
        self.model.localization_request = request
        with autocast(self.dtype, self.device):
            return self.model.test_step(self.data)

    def shared(self) -> List[SegDataSample]:
        """CAM, LAM, fused maps, scores and segmentation from one set of passes."""
        return self.predict(_request(('cam', 'lam', 'fused'), self.scales, self.seg_scales))

    def separate(self) -> None:
        """The same by passes of their own for LAM, CAM and segmentation."""
        self.predict(_request(('lam',), self.scales))
        self.predict(_request(('cam',), self.scales))
        self.predict(_request((), (), self.seg_scales))

    def timed(self, function) -> float:
        """Seconds that a call takes."""
        synchronize(self.device)
        start = time.perf_counter()
        function()
        synchronize(self.device)
        return time.perf_counter() - start

    def run(self, iters: int, warmup: int = 1) -> Dict[str, Any]:
        """Measure shared passes, and separate passes in turns with them.

        Args:
            iters: Rounds, at least 1.
            warmup: Rounds of shared passes before them.

        Returns:
            What ``tools/analysis/benchmark_inference.py`` documents, per image.
        """
        for _ in range(warmup):
            self.shared()
        release_memory(self.device)
        with MemoryMeter(self.device) as memory:
            self.shared()
            peak_mb = memory.take()
        gemm = GemmMeter(
            linear_shapes(self.model.backbone, 2 * self.batch_size, self.size),
            compute_dtype(self.dtype),
            self.device,
        )
        shared, separate = [], []
        gemm.measure()
        for _ in range(iters):
            shared.append(self.timed(self.shared) / self.batch_size)
            gemm.measure()
            separate.append(self.timed(self.separate) / self.batch_size)
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
            peak_mb=peak_mb,
            base_mb=self.base_mb,
            gemm_flops_per_s=gemm.rate,
            flops_per_image=self.flops // self.batch_size,
            maps_s_all=shared,
        )

    def _jobs(self) -> List[CRFJob]:
        """One batch of maps, LAM of the classes of the image as probabilities."""
        jobs = []
        samples = self.shared()
        for image, sample, truth in zip(
            self.data['inputs'], samples, self.data['data_samples']
        ):
            found = map_probabilities(sample.lam_ms.data, truth.gt_label)
            jobs.append(
                CRFJob(
                    'an image',
                    image.flip(0).permute(1, 2, 0).contiguous().numpy(),
                    found.probs.cpu().numpy(),
                    found.labels.cpu().numpy(),
                )
            )
        return jobs

    def run_with_crf(self, batches: int, workers: Optional[int] = None) -> Dict[str, Any]:
        """Measure maps and masks, the CRF working while the network goes on.

        Network alone, CRF alone (in this process) and both together are measured on as
        many images, one after the other.

        Args:
            batches: Batches of images, at least 1.
            workers: CRF processes; None for one per usable core.

        Returns:
            See ``crf`` in ``tools/analysis/benchmark_inference.py``, per image.
        """
        images = batches * self.batch_size
        jobs: List[CRFJob] = []
        network_s = (
            self.timed(lambda: [jobs.extend(self._jobs()) for _ in range(batches)]) / images
        )
        with DenseCRFPool(num_workers=0) as pool:
            _check(pool.map(jobs[:1]))
            crf_s = self.timed(lambda: _check(pool.map(jobs))) / images
        with DenseCRFPool(num_workers=workers) as pool:
            count = max(pool.num_workers, 1)
            together_s = (
                self.timed(
                    lambda: _check(
                        pool.map(job for _ in range(batches) for job in self._jobs())
                    )
                )
                / images
            )
        bound_s = max(network_s, crf_s / count)
        return dict(
            images=images,
            workers=pool.num_workers,
            network_s=network_s,
            crf_s=crf_s,
            masks_s=together_s,
            images_per_s=1 / together_s,
            bound_s=bound_s,
            ratio=together_s / bound_s,
            sequential_ratio=(network_s + crf_s) / together_s,
        )


def _check(results) -> None:
    for result in results:
        if result.error:
            raise RuntimeError(result.error)
