"""Time and memory of MoRe's training step, by stage, beside what its arithmetic needs.

    python benchmarks/step.py configs/more/more_vit-b_voc.py \
        --size 448 --batch-size 2 --iters 3 --json step.json [--check-flops]
    python benchmarks/step.py CONFIG --iters 2 --compare attention scale_1
    python benchmarks/step.py CONFIG --device cuda --profile trace.json

Random weights, random images and one to three classes per image; the step itself is
``MoRe.train_step`` with the config's optimizer, at an iteration at which all losses count.
Keys of the JSON file, times in seconds, memory in MB (2^20 bytes):

* ``step_s``: median time of a step, nothing else being measured (``step_s_all``: each);
  ``images_per_s`` and ``tokens_per_s`` (registers, classes and patches) at that pace;
* ``gemm_flops_per_s``: rate at which the device multiplies matrices of the sizes of the
  ViT's linear layers, tokens of the batch x D x (3D, D, 4D) and 4D x D, in the dtype of the
  network. Measured before, between and after the steps, the median counts;
* ``flops``: arithmetic of the network in one step (2 per multiply-add): ``forward``,
  ``backward`` and the passes of the ``cam`` by scale, counted analytically;
* ``gemm_bound_s`` = flops / rate, ``ratio`` = step_s / gemm_bound_s, ``gemm_share`` =
  1 / ratio;
* ``peak_mb``: peak memory of a step, model and optimizer included. On a GPU by its
  allocator; on a CPU the resident memory of the process, of which ``base_mb`` was there
  before the model;
* ``stages``: ``time_s``, ``share`` of the step and ``peak_mb`` of each stage, from further
  steps under PyTorch's profiler (``staged_step_s`` is their sum). On a GPU the times are
  those of the kernels, and ``idle`` is what is missing from step_s;
* ``overhead``: share of everything but the network (its passes and their gradient);
* ``check_flops`` (--check-flops): ``network`` and ``losses`` counted analytically, what
  PyTorch's counter sees in a real step, and the ratio of both;
* ``compare`` (--compare), by name: ``with`` and ``without`` one optimisation, in turns,
  ``step_s``, ``stages_s`` (the stages that it concerns) and ``peak_mb``, and the ratios
  ``time``, ``stages`` and ``memory`` (with / without: less than 1 is a gain). An argument
  of the CAMs is measured in a call that makes them: without ``step_s`` and ``time``.

--profile writes the trace of one more step, prints its longest operators, and counts the
calls with which the host waits for a GPU.
"""

import argparse
import statistics
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import torch
from mmengine.config import Config
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report, workload
from benchmarks.common.flops import (
    counted_flops,
    loss_flops,
    num_tokens,
    training_step_flops,
)
from benchmarks.common.gemm import GemmMeter, linear_shapes, synchronize
from benchmarks.common.memory import MemoryMeter, release_memory
from benchmarks.common.optimisations import CAM_ARGUMENTS, OPTIMISATIONS, STEP_OPTIONS
from benchmarks.common.stages import is_network, run_staged
from mmseg_more.files import write_bytes
from mmseg_more.localization.present import present_classes

_WAITS = ('cudaStreamSynchronize', 'cudaEventSynchronize', 'cudaDeviceSynchronize')


class Profile(NamedTuple):
    """What the profiler saw in one step."""

    table: str
    """The operators that took longest by themselves, on the device."""
    waits: str
    """How often the host waits for a GPU, by call; one of cudaDeviceSynchronize is the
    end of the measurement."""


class StepBenchmark:
    """A model, its optimizer and one batch, ready to be measured.

    Args:
        cfg: Config of the model and the optimizer, see :func:`workload.adapt_config`.
        batch_size: Images per step.
        device: Where to run.
        dtype: One of ``workload.DTYPES``.
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
        self.size = workload.image_size(cfg)
        release_memory(device)
        with MemoryMeter(device) as memory:
            pass
        self.base_mb = memory.peak_mb  # the libraries; nothing on a GPU
        workload.set_tf32(dtype)
        self.model = workload.build_model(cfg, device, seed).train()
        self.optim_wrapper = workload.build_optimizer(cfg, self.model, dtype, device)
        if iteration is None:
            iteration = max(self.model.loss_schedule.begin.values()) + 1
        self.model.iteration = iteration
        self.data = workload.random_batch(self.model, batch_size, self.size, seed)
        self.flops = training_step_flops(self.model, batch_size, self.size, iteration)

    def step(self) -> None:
        """One real training step."""
        self.model.train_step(self.data, self.optim_wrapper)

    def timed(self, function: Callable[[], Any]) -> float:
        """Seconds of one call, nothing else measured."""
        synchronize(self.device)
        start = time.perf_counter()
        function()
        synchronize(self.device)
        return time.perf_counter() - start

    def peak_mb(self, function: Callable[[], Any]) -> float:
        """Peak memory of one call."""
        release_memory(self.device)
        with MemoryMeter(self.device) as memory:
            self.timed(function)
        return memory.peak_mb

    def gemm_meter(self) -> GemmMeter:
        """A meter for the products of the step's forward pass."""
        shapes = linear_shapes(self.model.backbone, self.batch_size, self.size)
        return GemmMeter(shapes, workload.compute_dtype(self.dtype), self.device)

    def measure_stages(self, rounds: int = 1) -> Dict[str, Dict[str, float]]:
        """Mean seconds ``time_s`` and peak memory ``peak_mb`` of each stage.

        See :func:`run_staged` for their names.
        """
        release_memory(self.device)
        results: Dict[str, Dict[str, float]] = {}
        for _ in range(rounds):
            found = run_staged(self.model, self.optim_wrapper, self.data, self.device)
            for name, figures in found.items():
                stage = results.setdefault(name, dict(time_s=0.0, peak_mb=0.0))
                stage['time_s'] += figures.time_s / rounds
                stage['peak_mb'] = max(stage['peak_mb'], figures.peak_mb)
        return results

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

    def profile(self, path: str, rows: int = 15) -> Profile:
        """Profile one step by operator and write its trace.

        Args:
            path: File for the trace, in Chrome's format (about:tracing, Perfetto).
            rows: Operators in the table.

        Raises:
            OSError: If the file cannot be written.
        """
        activities = [ProfilerActivity.CPU]
        if self.device.type == 'cuda':
            activities.append(ProfilerActivity.CUDA)
        synchronize(self.device)
        with profile(activities=activities) as profiler:
            self.step()
            synchronize(self.device)
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder, 'trace.json')
            profiler.export_chrome_trace(str(trace))
            write_bytes(path, trace.read_bytes())
        averages = profiler.key_averages()
        count = {average.key: average.count for average in averages}
        table = averages.table(
            sort_by=f'self_{self.device.type}_time_total',
            row_limit=rows,
            max_name_column_width=50,
        )
        waits = [f'{name} {count[name]} x' for name in _WAITS if name in count]
        return Profile(table, ', '.join(waits) or 'none')

    def run(self, iters: int, warmup: int = 1, stage_iters: int = 1) -> Dict[str, Any]:
        """Measure everything.

        Steps are timed without any instrument, with a GEMM measurement before, between
        and after them; the stages come from further steps.

        Args:
            iters: Timed steps, at least 1.
            warmup: Steps before them.
            stage_iters: Steps for the stages.

        Returns:
            What the head of this file documents.
        """
        for _ in range(warmup):
            self.step()
        peak_mb = self.peak_mb(self.step)
        gemm, times = self.gemm_meter(), []
        gemm.measure()
        for _ in range(iters):
            times.append(self.timed(self.step))
            gemm.measure()
        rates = gemm.rates
        bound_s = self.flops.total / gemm.rate
        del gemm  # its matrices are no memory of the step
        step_s = statistics.median(times)
        stages = self.measure_stages(stage_iters)
        staged_step_s = sum(stage['time_s'] for stage in stages.values())
        if self.device.type == 'cuda':
            stages['idle'] = dict(time_s=max(0.0, step_s - staged_step_s), peak_mb=0.0)
        whole = sum(stage['time_s'] for stage in stages.values())
        for stage in stages.values():
            stage['share'] = stage['time_s'] / whole
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
            staged_step_s=staged_step_s,
            step_s_all=times,
            gemm_flops_per_s_all=rates,
        )

    def compare(
        self, names: Sequence[str], iters: int, stage_iters: int = 1
    ) -> Dict[str, Dict[str, Any]]:
        """Each optimisation alone, in turns with its absence.

        Args:
            names: Keys of ``OPTIMISATIONS``.
            iters: Timed rounds with and without it, at least 1.
            stage_iters: Steps each for the stages.

        Returns:
            What the head of this file documents as ``compare``.
        """
        return {
            name: self._compare_steps(name, iters, stage_iters)
            if name in STEP_OPTIONS
            else self._compare_cams(name, iters)
            for name in names
        }

    def _compare_steps(self, name: str, iters: int, stage_iters: int) -> Dict[str, Any]:
        option = STEP_OPTIONS[name]
        images = torch.stack(self.data['inputs']).to(self.device)

        def figures() -> Dict[str, float]:
            found = self.measure_stages(stage_iters)
            return dict(
                step_s=self.timed(self.step),
                stages_s=sum(
                    figures['time_s']
                    for stage, figures in found.items()
                    if any(fnmatch(stage, pattern) for pattern in option.stages)
                ),
                peak_mb=self.peak_mb(self.step),
            )

        def absent() -> Dict[str, float]:
            with option.absent(self.model, images):
                return figures()

        with option.absent(self.model, images):
            self.step()  # whatever is set up in a first step
        return _in_turns(figures, absent, iters)

    def _compare_cams(self, name: str, iters: int) -> Dict[str, Any]:
        with torch.no_grad(), self.optim_wrapper.optim_context(self.model):
            batch = self.model.data_preprocessor(self.data, True)
            labels = torch.stack([sample.gt_score for sample in batch['data_samples']])
            arguments = dict(
                tokens=self.model.extract_feat(batch['inputs']),
                classes=present_classes(labels.to(self.device)),
            )

        def figures(**change) -> Dict[str, float]:
            def call() -> None:
                with self.optim_wrapper.optim_context(self.model):
                    self.model.localizer.training_cams(
                        batch['inputs'], **{**arguments, **change}
                    )

            return dict(stages_s=self.timed(call), peak_mb=self.peak_mb(call))

        without = {CAM_ARGUMENTS[name].name: None}
        return _in_turns(figures, lambda: figures(**without), iters)


def _in_turns(
    present: Callable[[], Dict[str, float]],
    absent: Callable[[], Dict[str, float]],
    iters: int,
) -> Dict[str, Any]:
    """Medians of the figures of both sides, and their ratios."""
    sides: Dict[str, List[Dict[str, float]]] = {'with': [], 'without': []}
    for _ in range(iters):
        sides['with'].append(present())
        sides['without'].append(absent())
    medians = {
        side: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for side, rows in sides.items()
    }
    ratios = {
        name: medians['with'][key] / medians['without'][key]
        for name, key in (('time', 'step_s'), ('stages', 'stages_s'), ('memory', 'peak_mb'))
        if key in medians['with']
    }
    return dict(medians, **ratios)


def overhead(stages: Dict[str, Dict[str, float]]) -> float:
    """Share of everything but the network; optimizer and data count too.

    Args:
        stages: Name -> figures, among them ``share``.
    """
    return 1 - sum(stage['share'] for name, stage in stages.items() if is_network(name))


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    workload.add_arguments(parser, batch_size=2)
    parser.add_argument(
        '--iteration',
        type=int,
        help='0-based training iteration that the loss schedule '
        'reads; default: the first at which all losses count',
    )
    parser.add_argument(
        '--stage-iters', type=int, default=1, help='steps that are measured by stage'
    )
    parser.add_argument(
        '--check-flops',
        action='store_true',
        help="compare the FLOPs with PyTorch's counter, on one more step",
    )
    parser.add_argument(
        '--profile', metavar='TRACE', help='JSON file for the trace of one more step'
    )
    parser.add_argument(
        '--compare',
        nargs='+',
        default=[],
        choices=[*OPTIMISATIONS, 'all'],
        metavar='NAME',
        help='optimisations to measure against their absence: '
        + '; '.join(f'{name} (without: {text})' for name, text in OPTIMISATIONS.items())
        + '; all',
    )
    args = parser.parse_args(argv)
    args.cfg = workload.load(parser, args)
    if args.stage_iters < 1:
        parser.error(f'--stage-iters must be at least 1, got {args.stage_iters}')
    if 'all' in args.compare:
        args.compare = list(OPTIMISATIONS)
    return args


def show(figures: Dict) -> None:
    """Print the tables."""
    rows = [
        (name, stage['time_s'], f'{stage["share"]:.1%}', f'{stage["peak_mb"]:.0f}')
        for name, stage in figures['stages'].items()
    ]
    print(report.table(('stage', 'seconds', 'share', 'peak MB'), rows))
    print(
        'step {step_s:.4g} s, GEMM bound {gemm_bound_s:.4g} s ({tflop:.4g} TFLOP at '
        '{rate:.4g} GFLOP/s): ratio {ratio:.3f}. Everything but the network: '
        '{overhead:.1%}. Peak memory {peak_mb:.0f} MB.'.format(
            tflop=figures['flops']['total'] / 1e12,
            rate=figures['gemm_flops_per_s'] / 1e9,
            **figures,
        )
    )
    if 'check_flops' in figures:
        print(
            'FLOPs of network and losses: analytic / counted = '
            f'{figures["check_flops"]["ratio"]:.4f}'
        )
    if 'compare' in figures:
        rows = []
        for name, found in figures['compare'].items():
            for key, label in (
                ('step_s', 'step, s'),
                ('stages_s', 'its stages, s'),
                ('peak_mb', 'peak, MB'),
            ):
                if key in found['with']:
                    used, absent = found['with'][key], found['without'][key]
                    rows.append((name, label, used, absent, used / absent))
        print(report.table(('optimisation', '', 'with', 'without', 'ratio'), rows))


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    device = torch.device(args.device)
    benchmark = StepBenchmark(args.cfg, args.batch_size, device, args.dtype, args.iteration)
    figures = dict(
        config=args.config,
        size=benchmark.size,
        batch_size=args.batch_size,
        dtype=args.dtype,
        iteration=benchmark.model.iteration,
        iters=args.iters,
        num_classes=benchmark.model.num_classes,
        **report.machine(device),
    )
    figures.update(benchmark.run(args.iters, args.warmup, args.stage_iters))
    if args.check_flops:
        figures['check_flops'] = benchmark.check_flops()
    if args.compare:
        figures['compare'] = benchmark.compare(args.compare, args.iters, args.stage_iters)
    report.write_json(args.json, figures)
    show(figures)
    if args.profile:
        found = benchmark.profile(args.profile)
        print(f'{found.table}\ncalls that wait for a GPU: {found.waits}')


if __name__ == '__main__':
    main()
