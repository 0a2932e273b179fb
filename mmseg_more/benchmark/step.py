"""The training step: time, memory, stages, and what its arithmetic would take."""

import statistics
import time
from fnmatch import fnmatch
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from mmengine.config import Config
from torch import nn

from .flops import counted_flops, loss_flops, num_tokens, training_step_flops
from .gemm import GemmMeter, linear_shapes, synchronize
from .memory import MemoryMeter, release_memory
from .operators import Profile, profile_step
from .stages import StageMeter
from .step_stages import overhead, staged
from .variants import VARIANTS
from .workload import (
    build_model,
    build_optimizer,
    compute_dtype,
    image_size,
    random_batch,
    set_tf32,
)


def last_begin(model: nn.Module) -> int:
    """First iteration at which every loss counts."""
    return max(model.loss_schedule.begin.values()) + 1


class Timing(NamedTuple):
    """Some steps, one after the other."""

    times_s: List[float]
    """Seconds of each."""
    peak_mb: float
    """Peak memory over all of them."""


class StepBenchmark:
    """A model, its optimizer and one batch, ready to be measured.

    Args:
        cfg: Config of the model and the optimizer, see :func:`adapt_config`.
        batch_size: Images per step.
        device: Where to run.
        dtype: One of ``DTYPES``.
        iteration: 0-based iteration that the loss schedule reads; None for the first one
            at which all losses count.
        seed: Of weights, images and labels.
    """

    def __init__(
        self,
        cfg: Config,
        batch_size: int,
        device: torch.device,
        dtype: str = 'float32',
        iteration: Optional[int] = None,
        seed: int = 0,
    ) -> None:
        self.device, self.dtype, self.batch_size = device, dtype, batch_size
        self.size = image_size(cfg)
        release_memory(device)
        with MemoryMeter(device) as memory:
            self.base_mb = memory.take()  # the libraries; nothing on a GPU
        set_tf32(dtype)
        self.model = build_model(cfg, device, seed).train()
        self.optim_wrapper = build_optimizer(cfg, self.model, dtype, device)
        self.model.iteration = last_begin(self.model) if iteration is None else iteration
        self.data = random_batch(self.model, batch_size, self.size, seed)
        self.flops = training_step_flops(
            self.model, batch_size, self.size, self.model.iteration
        )

    def step(self) -> None:
        """One real training step."""
        self.model.train_step(self.data, self.optim_wrapper)

    def timed_step(self) -> float:
        """Seconds of one step, nothing else measured."""
        synchronize(self.device)
        start = time.perf_counter()
        self.step()
        synchronize(self.device)
        return time.perf_counter() - start

    def gemm_meter(self) -> GemmMeter:
        """A meter for the products of the step's forward pass."""
        shapes = linear_shapes(self.model.backbone, self.batch_size, self.size)
        return GemmMeter(shapes, compute_dtype(self.dtype), self.device)

    def measure_memory(self, rounds: int = 1) -> Timing:
        """Steps with the memory watched."""
        release_memory(self.device)
        with MemoryMeter(self.device) as memory:
            times = [self.timed_step() for _ in range(rounds)]
            return Timing(times, memory.take())

    def measure_stages(self, rounds: int = 1) -> Dict[str, Dict[str, float]]:
        """Mean seconds, share and peak memory of each stage.

        ``other`` is what is in no stage of its own: casts, resizing of the segmentation.
        """
        release_memory(self.device)
        with MemoryMeter(self.device) as memory:
            meter = StageMeter(self.device, memory)
            with staged(self.model, self.optim_wrapper, meter):
                for _ in range(rounds):
                    with meter.stage('other'):
                        self.step()
        results = meter.results()
        results['other'] = results.pop('other')  # last
        total = sum(result.time_s for result in results.values())
        return {
            name: dict(
                time_s=result.time_s / rounds,
                share=result.time_s / total,
                peak_mb=result.peak_mb,
            )
            for name, result in results.items()
        }

    def check_flops(self) -> Dict[str, float]:
        """Analytic FLOPs of a step against those that PyTorch's counter sees."""
        counted = counted_flops(self.step)['total']
        losses = loss_flops(self.model, self.batch_size, self.size, self.model.iteration)
        analytic = self.flops.total + losses
        return dict(
            network=self.flops.total,
            losses=losses,
            counted=counted,
            ratio=analytic / counted,
        )

    def profile(self, path: str) -> Profile:
        """One step by operator, see :func:`profile_step`; writes its trace."""
        return profile_step(self.step, self.device, path)

    def run(self, iters: int, warmup: int = 1, stage_iters: int = 1) -> Dict[str, Any]:
        """Measure everything.

        Steps are timed without any instrument, with a GEMM measurement before, between
        and after them; the stages come from further steps.

        Args:
            iters: Timed steps, at least 1.
            warmup: Steps before them.
            stage_iters: Steps for the stages.

        Returns:
            What ``tools/analysis/benchmark_step.py`` documents.
        """
        for _ in range(warmup):
            self.step()
        peak_mb = self.measure_memory().peak_mb
        gemm, times = self.gemm_meter(), []
        gemm.measure()
        for _ in range(iters):
            times.append(self.timed_step())
            gemm.measure()
        rates = gemm.rates
        bound_s = self.flops.total / gemm.rate
        del gemm  # its matrices are no memory of the step
        stages = self.measure_stages(stage_iters)
        step_s = statistics.median(times)
        tokens = self.batch_size * num_tokens(self.model.backbone, self.size)
        return dict(
            step_s=step_s,
            gemm_bound_s=bound_s,
            ratio=step_s / bound_s,
            overhead=overhead(stages),
            peak_mb=peak_mb,
            base_mb=self.base_mb,
            images_per_s=self.batch_size / step_s,
            tokens_per_s=tokens / step_s,
            gemm_share=bound_s / step_s,
            gemm_flops_per_s=statistics.median(rates),
            flops=dict(self.flops._asdict(), total=self.flops.total),
            stages=stages,
            staged_step_s=sum(stage['time_s'] for stage in stages.values()),
            step_s_all=times,
            gemm_flops_per_s_all=rates,
        )

    def compare(
        self, names: Sequence[str], iters: int, stage_iters: int = 1
    ) -> Dict[str, Dict[str, Any]]:
        """Each optimisation alone, in turns with its absence.

        Args:
            names: Keys of ``VARIANTS``: each takes one optimisation away.
            iters: Timed steps with and without it, at least 1.
            stage_iters: Steps each for the variant's stages.

        Returns:
            By name: ``with`` and ``without`` the optimisation, each ``step_s, peak_mb``
            and ``stages_s`` (seconds in the stages it concerns); and the ratios
            ``time``, ``stages``, ``memory`` (with / without: less than 1 is a gain).
        """
        results = {}
        for name in names:
            variant = VARIANTS[name]
            sides: Dict[str, List[dict]] = {'with': [], 'without': []}
            with variant.absent(self.model):
                self.step()  # whatever is set up in a first step
            for _ in range(iters):
                sides['with'].append(self._side(variant.stages, stage_iters))
                with variant.absent(self.model):
                    sides['without'].append(self._side(variant.stages, stage_iters))
            merged = {
                side: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
                for side, rows in sides.items()
            }
            results[name] = dict(
                merged,
                **{
                    key: merged['with'][of] / merged['without'][of]
                    for key, of in (
                        ('time', 'step_s'),
                        ('stages', 'stages_s'),
                        ('memory', 'peak_mb'),
                    )
                },
            )
        return results

    def _side(self, stages: Sequence[str], stage_iters: int) -> Dict[str, float]:
        timing = self.measure_memory()
        found = self.measure_stages(stage_iters)
        return dict(
            step_s=timing.times_s[0],
            peak_mb=timing.peak_mb,
            stages_s=sum(
                value['time_s']
                for name, value in found.items()
                if any(fnmatch(name, pattern) for pattern in stages)
            ),
        )
