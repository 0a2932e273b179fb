"""How the training step scales: tables and a picture.

    python benchmarks/scaling.py configs/more/more_vit-b_voc.py \
        docs/scaling.png --arch deit-small --size 224 --json scaling.json

From one point (--size, --batch-size, the config's classes and scales) the image size, the
batch, the number of classes and the number of CAM scales are changed one at a time; every
point is measured as in step.py. The tables are printed in Markdown. The picture is
drawn again from a JSON file, without measuring, with --from-json FILE.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import matplotlib
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report, workload
from benchmarks.common.memory import release_memory
from benchmarks.step import StepBenchmark

matplotlib.use('Agg')
from matplotlib import pyplot as plt

AXES = dict(
    size='image size, pixels',
    batch_size='batch, images',
    num_classes='classes K',
    num_scales='CAM scales',
)
_COLUMNS = dict(
    step_s='step, s',
    gemm_bound_s='GEMM bound, s',
    ratio='ratio',
    overhead='all but the network',
    peak_mb='peak, MB',
)
_BLUE, _ORANGE, _GREY = '#2a6fbb', '#d9822b', '#666666'


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    workload.add_arguments(parser, batch_size=2)
    parser.add_argument('out', help='PNG file to draw')
    for name, values in (
        ('sizes', (224, 320, 448)),
        ('batch-sizes', (1, 2, 4)),
        ('classes', (20, 80, 254)),
        ('scales', (1, 2, 3, 4)),
    ):
        parser.add_argument(
            f'--{name}',
            type=int,
            nargs='*',
            default=values,
            help=f'values to measure; default: {" ".join(map(str, values))}',
        )
    parser.add_argument('--from-json', help='draw the figures of this file')
    args = parser.parse_args(argv)
    args.cfg = workload.load(parser, args)
    for name in ('sizes', 'batch_sizes', 'classes', 'scales'):
        if min(getattr(args, name), default=1) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    if max(args.scales, default=1) > 7:
        parser.error('--scales: there are 7 scales at most')
    return args


def measure_point(args: argparse.Namespace, **change: int) -> Dict[str, Any]:
    """Figures of the step with one thing changed."""
    device = torch.device(args.device)
    batch_size = change.pop('batch_size', args.batch_size)
    cfg = workload.adapt_config(args.cfg, **change)
    figures = StepBenchmark(cfg, batch_size, device, args.dtype).run(
        args.iters, args.warmup
    )
    release_memory(device)  # of the model that is gone
    return {key: figures[key] for key in _COLUMNS}


def measure(args: argparse.Namespace) -> Dict[str, List[Dict[str, Any]]]:
    """Figures by axis, each row with its ``value``."""
    values = dict(zip(AXES, (args.sizes, args.batch_sizes, args.classes, args.scales)))
    result: Dict[str, List[Dict[str, Any]]] = {}
    for axis, wanted in values.items():
        for value in wanted:
            row = dict(value=value, **measure_point(args, **{axis: value}))
            result.setdefault(axis, []).append(row)
            print(
                f'{AXES[axis]} {value}: step {row["step_s"]:.3g} s',
                file=sys.stderr,
                flush=True,
            )
    return result


def markdown(axes: Dict[str, List[Dict[str, Any]]]) -> str:
    """One table per axis."""
    texts = dict(ratio='{:.2f}', overhead='{:.1%}', peak_mb='{:.0f}')
    tables = []
    for axis, rows in axes.items():
        lines = [
            '| ' + ' | '.join([AXES[axis], *_COLUMNS.values()]) + ' |',
            '|---' * (1 + len(_COLUMNS)) + '|',
        ]
        for row in rows:
            cells = [texts.get(key, '{:.3g}').format(row[key]) for key in _COLUMNS]
            lines.append(f'| {row["value"]} | ' + ' | '.join(cells) + ' |')
        tables.append('\n'.join(lines))
    return '\n\n'.join(tables)


def draw(axes: Dict[str, List[Dict[str, Any]]], title: str, path: str) -> None:
    """Time above, memory below, a column per axis."""
    figure, grid = plt.subplots(
        2,
        len(axes),
        figsize=(max(3.2 * len(axes), 6.4), 5.2),
        squeeze=False,
        sharex='col',
        layout='constrained',
    )
    for column, (axis, rows) in enumerate(axes.items()):
        values = [row['value'] for row in rows]
        time, memory = grid[:, column]
        time.plot(values, [row['step_s'] for row in rows], 'o-', color=_BLUE, label='step')
        time.plot(
            values,
            [row['gemm_bound_s'] for row in rows],
            's--',
            color=_GREY,
            label='GEMM bound',
        )
        memory.plot(values, [row['peak_mb'] / 1024 for row in rows], 'o-', color=_ORANGE)
        memory.set_xlabel(AXES[axis])
        memory.set_xticks(values)
        for axes_ in (time, memory):
            axes_.set_ylim(0, 1.08 * axes_.dataLim.ymax)
            axes_.grid(alpha=0.25)
            axes_.spines[['top', 'right']].set_visible(False)
    grid[0, 0].set_ylabel('seconds per step')
    grid[1, 0].set_ylabel('peak memory, GB')
    grid[0, 0].legend(frameon=False)
    figure.suptitle(title, fontsize=10, wrap=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    if args.from_json:
        with open(args.from_json, encoding='utf-8') as file:
            figures = json.load(file)
    else:
        size = workload.image_size(args.cfg)[0]
        machine = report.machine(torch.device(args.device))
        title = (
            f'{args.arch or "the ViT"} of {args.config}: {size} x {size}, batch '
            f'{args.batch_size}, {args.cfg.model.num_classes} classes, {args.dtype}, '
            f'{machine["device_name"]} ({machine["threads"]} threads), unless the '
            'axis says otherwise'
        )
        figures = dict(title=title, axes=measure(args), **machine)
    report.write_json(args.json, figures)
    draw(figures['axes'], figures['title'], args.out)
    print(markdown(figures['axes']))


if __name__ == '__main__':
    main()
