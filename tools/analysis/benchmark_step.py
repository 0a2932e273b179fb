"""Time and memory of MoRe's training step, by stage, beside what its arithmetic needs.

    python tools/analysis/benchmark_step.py configs/more/more_vit-b_voc.py \
        --size 448 --batch-size 2 --iters 3 --json step.json [--check-flops]
    python tools/analysis/benchmark_step.py CONFIG --iters 2 --compare attention scale_1
    python tools/analysis/benchmark_step.py CONFIG --device cuda --profile trace.json

Random weights, random images and one to three classes per image; the step itself is
``MoRe.train_step`` with the config's optimizer, at an iteration at which all losses count.
Keys of the JSON file, times in seconds, memory in MB (2^20 bytes):

* ``step_s``: median time of a step, nothing else being measured (``step_s_all``: each);
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
  steps with clocks at the borders of the stages (``staged_step_s`` is their whole time);
* ``overhead``: share of everything but the network (its passes and their gradient);
* ``check_flops`` (--check-flops): ``network`` and ``losses`` counted analytically, what
  PyTorch's counter sees in a real step, and the ratio of both;
* ``compare`` (--compare): steps with and without one optimisation, in turns.

--profile writes the trace of one more step, prints its longest operators, and counts the
calls with which the host waits for a GPU.
"""

import argparse
from typing import Dict, Optional, Sequence

import torch

from mmseg_more.benchmark import report, workload
from mmseg_more.benchmark.step import StepBenchmark
from mmseg_more.benchmark.variants import VARIANTS


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
        choices=[*VARIANTS, 'all'],
        metavar='NAME',
        help='optimisations to measure against their absence: '
        + '; '.join(
            f'{name} (without: {variant.description})' for name, variant in VARIANTS.items()
        )
        + '; all',
    )
    args = parser.parse_args(argv)
    args.cfg = workload.load(parser, args)
    if args.stage_iters < 1:
        parser.error(f'--stage-iters must be at least 1, got {args.stage_iters}')
    if 'all' in args.compare:
        args.compare = list(VARIANTS)
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
    if figures.get('compare'):
        rows = []
        for name, found in figures['compare'].items():
            for key, label in (
                ('step_s', 'step, s'),
                ('stages_s', 'its stages, s'),
                ('peak_mb', 'peak, MB'),
            ):
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
