"""Compare the runs of two folders seed by seed: finite losses, figures that agree?

    python tools/analysis/compare_runs.py work_dirs/amp/float32 work_dirs/amp/bfloat16

Each folder holds one folder for each seed, with the log of a training and the
metrics.json of its test. Ends with an error if a logged loss is not finite or a mean
differs by more than --tolerance.
"""

import json
import math
import os.path as osp
import sys
from glob import glob
from pathlib import Path
from typing import Dict, List

from prettytable import PrettyTable

from mmseg_more.engine.command_line import CommandParser, command

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scalars import read_scalars

KEYS = ('seg/mIoU', 'lam/mIoU', 'cam/mIoU')


def read_losses(folder: str) -> Dict[int, List[str]]:
    """Iteration -> names of the losses of it that are not finite.

    Raises:
        FileNotFoundError: If no training has left its log below ``folder``.
    """
    steps = {}
    for line in read_scalars(folder):
        if 'loss' in line:
            steps[line['step']] = [
                name
                for name, value in line.items()
                if 'loss' in name and not math.isfinite(value)
            ]
    if not steps:
        raise FileNotFoundError(
            f'{folder} holds no log of a training '
            '(*/vis_data/scalars.json): run tools/train.py with '
            f'--work-dir {folder}'
        )
    return steps


def read_figures(folder: str) -> List[float]:
    """Figures ``KEYS`` of a test.

    Raises:
        FileNotFoundError: If there is no metrics.json.
    """
    path = osp.join(folder, 'metrics.json')
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'{path} does not exist: run tools/test.py with --cfg-options '
            f'test_evaluator.out_json={path}, or compare the losses alone (--losses)'
        )
    with open(path) as file:
        figures = json.load(file)
    return [figures[key] for key in KEYS]


def check_losses(folders: List[str]) -> bool:
    """Print what is not finite; whether everything is."""
    finite = True
    for folder in folders:
        steps = read_losses(folder)
        bad = {step: names for step, names in sorted(steps.items()) if names}
        finite &= not bad
        first = next(iter(bad), None)
        print(
            f'{folder}: losses of {len(steps)} logged iterations, '
            + (
                f'not finite in {len(bad)}, first in {first}: {", ".join(bad[first])}'
                if bad
                else 'all finite'
            )
        )
    return finite


def compare_figures(pairs: List[tuple], tolerance: float) -> bool:
    """Print a row for each pair of folders; whether the means agree."""
    table = PrettyTable(['seed', *KEYS])
    differences = []
    for one, other in pairs:
        figures = list(zip(read_figures(one), read_figures(other)))
        table.add_row([osp.basename(one), *(f'{a:.1f} -> {b:.1f}' for a, b in figures)])
        differences.append([b - a for a, b in figures])
    means = [sum(column) / len(column) for column in zip(*differences)]
    table.add_row(['mean difference', *(f'{mean:+.2f}' for mean in means)])
    print(table)
    return all(abs(mean) <= tolerance for mean in means)


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument('reference', help='folder of the runs to compare with')
    parser.add_argument('other', help='folder of the runs that are judged')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1.0,
        help='largest difference of a mean in points (default: 1)',
    )
    parser.add_argument('--losses', action='store_true', help='look at the losses alone')
    args = parser.parse_args()
    pairs = [
        (one, osp.join(args.other, osp.basename(one)))
        for one in sorted(glob(osp.join(args.reference, '*')))
        if osp.isdir(one)
    ]
    if not pairs:
        parser.error(f'{args.reference} holds no folder of a run')
    agree = check_losses([folder for pair in pairs for folder in pair])
    if not args.losses:
        agree &= compare_figures(pairs, args.tolerance)
    sys.exit(0 if agree else 1)


if __name__ == '__main__':
    main()
