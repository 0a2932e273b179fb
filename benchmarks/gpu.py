"""What a GPU makes of MoRe: the training step and the maps, in many forms, by one command.

    python benchmarks/gpu.py configs/more/more_vit-b_voc.py --size 448 --out gpu

Everything runs in one process, the important cases first; ``OUT/gpu.json`` and
``OUT/gpu.md`` are written anew after each case, so that whatever has been measured is
there however the program ends. A case that fails is listed with its error, and the next
one runs. ``gpu.sh`` calls this and runs the tests and the demo besides.

Keys of the JSON file:

* ``machine``: see ``report.machine``;
* ``rates``: FLOP/s of matrix products of 8192 x 8192 by dtype, and ``copy_bytes_per_s`` of
  a large copy on the device, bytes read and written;
* ``steps``, ``maps``: by case, such as ``batch 4, bfloat16, compile``, what ``step.py`` and
  ``maps.py`` document; of a step ``mfu``, its arithmetic per second over the rate of its
  dtype, ``waits``, the calls with which the host waits for the GPU, and ``setup_s``, what
  the first step took longer than another (compilation, captures);
* ``errors``: by case.
"""

import argparse
import gc
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report, workload
from benchmarks.common.gemm import GemmMeter, synchronize
from benchmarks.common.memory import release_memory
from benchmarks.maps import MapsBenchmark
from benchmarks.step import StepBenchmark
from mmseg_more.engine.command_line import add_config_options
from mmseg_more.files import write_bytes

OPTIONS: Dict[str, Dict[str, Any]] = {
    'compile': {'model.backbone.compile': True},
    'graphs': {'model.localization.cuda_graphs': True},
    'checkpointing': {'model.backbone.with_cp': True},
}
"""Switches of the package that a case may name -> settings of the config."""


class Case(NamedTuple):
    """One form of the step, or of the maps."""

    batch_size: int
    dtype: str
    options: Sequence[str] = ()

    @property
    def name(self) -> str:
        return ', '.join((f'batch {self.batch_size}', self.dtype, *self.options))


def cases(batch_sizes: Sequence[int], dtypes: Sequence[str]) -> List[Tuple[str, Case]]:
    """Group and case of all that is measured, what says most first.

    Args:
        batch_sizes: Of the step, smallest first.
        dtypes: The fastest last, which the switches are measured with.
    """
    *slower, fastest = dtypes
    small, *larger = batch_sizes
    return [
        *(('steps', Case(size, fastest)) for size in batch_sizes),
        ('maps', Case(1, fastest)),
        ('maps', Case(8, fastest)),
        ('maps', Case(1, fastest, ('graphs',))),
        ('steps', Case(small, fastest, ('graphs',))),
        ('steps', Case(small, fastest, ('compile',))),
        *(('steps', Case(size, fastest, ('compile',))) for size in larger),
        *(
            ('steps', Case(size, dtype))
            for size in batch_sizes[:2]
            for dtype in reversed(slower)
        ),
        ('steps', Case(small, fastest, ('compile', 'graphs'))),
        ('maps', Case(8, fastest, ('compile',))),
        ('steps', Case(batch_sizes[-1], fastest, ('checkpointing',))),
        *(('maps', Case(8, dtype)) for dtype in slower),
    ]


class Figures:
    """All results, on disk after each of them.

    Args:
        folder: Where gpu.json and gpu.md are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: Dict[str, Any] = dict(rates={}, steps={}, maps={}, errors={})

    def add(self, group: str, name: str, measure: Callable[[], Any]) -> None:
        """Keep what ``measure`` returns, or its error."""
        start = time.perf_counter()
        try:
            self.found[group][name] = measure()
        except Exception as error:  # the next case is to run whatever this one met
            self.found['errors'][f'{group}: {name}'] = f'{type(error).__name__}: {error}'
        print(f'{group}: {name}: {time.perf_counter() - start:.0f} s', flush=True)
        gc.collect()
        self.write()

    def write(self) -> None:
        """Write both files."""
        report.write_json(str(self.folder / 'gpu.json'), self.found)
        write_bytes(str(self.folder / 'gpu.md'), markdown(self.found).encode())


def measure_rates(device: torch.device, dtypes: Sequence[str]) -> Dict[str, float]:
    """FLOP/s of large products by dtype, and bytes per second of a copy."""
    side = 8192 if device.type == 'cuda' else 256
    rates = {}
    for dtype in dtypes:
        workload.set_tf32(dtype)
        meter = GemmMeter([(side, side, side)], workload.compute_dtype(dtype), device)
        for _ in range(3):
            meter.measure()
        rates[dtype] = meter.rate
    source = torch.rand(side, side, 4, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(10):
        synchronize(device)
        start = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    copied = 2 * source.numel() * source.element_size()
    rates['copy_bytes_per_s'] = copied / statistics.median(seconds)
    return rates


def configured(cfg: Config, options: Sequence[str]) -> Config:
    """``cfg`` with switches on."""
    cfg = Config(cfg.to_dict())
    for name in options:
        cfg.merge_from_dict(OPTIONS[name])
    return cfg


def measure_step(
    cfg: Config, case: Case, device: torch.device, iters: int, trace: Path
) -> Dict[str, Any]:
    """Time, stages, memory and waits of one form of the step."""
    torch.compiler.reset()
    benchmark = StepBenchmark(
        configured(cfg, case.options), case.batch_size, device, case.dtype
    )
    first_s = benchmark.timed(benchmark.step)
    figures = benchmark.run(iters, warmup=2)
    found = benchmark.profile(str(trace), rows=30)
    print(found.table, flush=True)
    return dict(figures, waits=found.waits, setup_s=first_s - figures['step_s'])


def measure_maps(
    cfg: Config, case: Case, device: torch.device, iters: int, crf_batches: int
) -> Dict[str, Any]:
    """Time of the maps, and of masks with the CRF."""
    torch.compiler.reset()
    benchmark = MapsBenchmark(
        configured(cfg, case.options), case.batch_size, device, case.dtype
    )
    figures = benchmark.run(iters, warmup=2)
    return dict(figures, crf=benchmark.run_with_crf(crf_batches))


def markdown(found: Dict[str, Any]) -> str:
    """Tables of all results."""
    machine, rates = found.get('machine', {}), found['rates'].get('all', {})
    lines = [
        f'{machine.get("device_name")}, PyTorch {machine.get("torch")}. '
        + ', '.join(
            f'{name} {rate / 1e12:.3g} TFLOP/s'
            for name, rate in rates.items()
            if name in workload.DTYPES
        )
        + (
            f', copy {rates["copy_bytes_per_s"] / 1e12:.3g} TB/s'
            if 'copy_bytes_per_s' in rates
            else ''
        ),
        '',
        '| step | ms | images/s | of the matrix rate | all but the network | idle | '
        'peak MB | waits |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for name, step in found['steps'].items():
        idle = step['stages'].get('idle', {}).get('share', 0.0)
        lines.append(
            f'| {name} | {step["step_s"] * 1e3:.1f} | {step["images_per_s"]:.1f} | '
            f'{step["mfu"]:.0%} | {step["overhead"] - idle:.0%} | {idle:.0%} | '
            f'{step["peak_mb"]:.0f} | {step["waits"]} |'
        )
    lines += [
        '',
        '| maps | images/s | x GEMM bound | masks with the CRF, images/s | peak MB |',
        '|---|---|---|---|---|',
    ]
    for name, maps in found['maps'].items():
        lines.append(
            f'| {name} | {maps["images_per_s"]:.1f} | {maps["ratio"]:.2f} | '
            f'{maps["crf"]["images_per_s"]:.1f} | {maps["peak_mb"]:.0f} |'
        )
    lines += ['', *(f'* {name}: {text}' for name, text in found['errors'].items())]
    return '\n'.join(lines) + '\n'


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config of the model')
    parser.add_argument('--out', required=True, type=Path, help='folder to write to')
    parser.add_argument('--size', type=int, help='side of the images in pixels')
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[4, 16, 64])
    parser.add_argument(
        '--dtypes',
        nargs='+',
        choices=workload.DTYPES,
        default=['float32', 'tf32', 'bfloat16'],
        help='the fastest last',
    )
    parser.add_argument('--arch', help="another ViT than the config's")
    parser.add_argument('--num-classes', type=int, help="K; default: the config's")
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--iters', type=int, default=8, help='timed rounds of a case')
    add_config_options(parser)
    parser.add_argument(
        '--only', metavar='WORD', help='cases whose names contain this word'
    )
    args = parser.parse_args(argv)
    args.warmup, args.dtype = 1, args.dtypes[0]
    args.cfg = workload.load(parser, args)
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    device = torch.device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    figures = Figures(args.out)
    figures.found['machine'] = report.machine(device)
    figures.add('rates', 'all', lambda: measure_rates(device, args.dtypes))
    rates = figures.found['rates'].get('all', {})

    def step(case: Case) -> Dict[str, Any]:
        trace = args.out / 'trace.json'
        found = measure_step(args.cfg, case, device, args.iters, trace)
        rate = found['flops']['total'] / found['step_s']
        return dict(found, mfu=rate / rates[case.dtype])

    def maps(case: Case) -> Dict[str, Any]:
        return measure_maps(args.cfg, case, device, args.iters // 2 or 1, 16)

    measure = dict(steps=step, maps=maps)
    for group, case in cases(args.batch_sizes, args.dtypes):
        if args.only is None or args.only in f'{group}: {case.name}':
            figures.add(group, case.name, lambda: measure[group](case))  # noqa: B023
            release_memory(device)
    print(markdown(figures.found))


if __name__ == '__main__':
    main()
