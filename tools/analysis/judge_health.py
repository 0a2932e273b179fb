"""Did HealthHook warn of the trainings that lost a class, soon enough, and of no other?

    python tools/train.py configs/more/more_vit-t_shapes.py --work-dir work_dirs/a \\
        --cfg-options val_evaluator.out_json=work_dirs/a/metrics.json
    python tools/analysis/judge_health.py work_dirs/a work_dirs/b --out judged.json

Each folder holds a finished training with HealthHook, whose validation knows the true masks
and has left a metrics.json. A training has lost a class if the IoU of the segmentation for
that class is below --lost at its end. It was warned of if the hook counted a class that
floods or dies in one of its checks.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from prettytable import PrettyTable

from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.evaluation.report import write_json

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scalars import read_scalars

WARNINGS = ('health/floods', 'health/dies')
PREFIX = 'seg/IoU/'


def read_checks(folder: Path) -> List[Dict[str, float]]:
    """The scalars of all checks of a training, by iteration.

    Raises:
        ValueError: If there are none.
    """
    checks = {}
    for values in read_scalars(folder):
        if WARNINGS[0] in values:
            checks[int(values['step'])] = dict(values, step=int(values['step']))
    if not checks:
        raise ValueError(
            f'{folder} holds no check in */vis_data/scalars.json: train with HealthHook'
        )
    return [checks[step] for step in sorted(checks)]


def read_ious(folder: Path) -> Dict[str, float]:
    """IoU of the segmentation at the end, in percent, by class.

    Those that the validation could not tell are left out.

    Raises:
        ValueError: If the training has left none.
    """
    file = folder / 'metrics.json'
    try:
        metrics = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ValueError(
            f'{folder} holds no metrics.json ({error}): train with '
            'val_evaluator.out_json=.../metrics.json and true masks in the validation'
        ) from error
    ious = {
        key.removeprefix(PREFIX): value
        for key, value in metrics.items()
        if key.startswith(PREFIX) and value is not None
    }
    if not ious:
        raise ValueError(
            f'{file} holds no IoU of a class ({PREFIX}CLASS): evaluate the segmentation in '
            'the validation, with true masks'
        )
    return ious


def judge(folder: Path, lost: float) -> Dict[str, Any]:
    """What happened in a training, and when the hook said so."""
    checks, ious = read_checks(folder), read_ious(folder)
    weakest = min(ious, key=lambda name: ious[name])
    warned = [c['step'] for c in checks if any(c.get(key, 0) > 0 for key in WARNINGS)]
    last = checks[-1]['step']
    return dict(
        weakest=weakest,
        weakest_iou=ious[weakest],
        lost=ious[weakest] < lost,
        warned=bool(warned),
        warned_at=100 * warned[0] / last if warned else None,
        ill_at_end=any(checks[-1].get(key, 0) > 0 for key in WARNINGS),
        score=checks[-1].get('health/score'),
    )


def summary(rows: Dict[str, Dict[str, Any]]) -> str:
    losing = [row for row in rows.values() if row['lost']]
    healthy = [row for row in rows.values() if not row['lost']]
    in_time = sum(row['warned'] and row['warned_at'] < 50 for row in losing)
    return (
        f'{len(losing)} trainings lost a class: {sum(row["warned"] for row in losing)} '
        f'warned of, {in_time} before half of the training. {len(healthy)} lost none: '
        f'{sum(row["warned"] for row in healthy)} warned of.'
    )


def table(rows: Dict[str, Dict[str, Any]]) -> str:
    result = PrettyTable(
        ['training', 'weakest class', 'IoU', 'lost', 'warned at, %', 'ill at end', 'score']
    )
    for name, row in rows.items():
        result.add_row(
            [
                name,
                row['weakest'],
                f'{row["weakest_iou"]:.1f}',
                'yes' if row['lost'] else '',
                f'{row["warned_at"]:.0f}' if row['warned'] else '',
                'yes' if row['ill_at_end'] else '',
                '-' if row['score'] is None else f'{row["score"]:.1f}',
            ]
        )
    return result.get_string()


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('folders', nargs='+', type=Path, help='work folders of trainings')
    parser.add_argument(
        '--lost',
        type=float,
        default=45.0,
        help='a class is lost below this IoU, in percent (default: %(default)s)',
    )
    parser.add_argument('--out', help='JSON file for the figures')
    return parser.parse_args(argv)


@command
def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    rows = {str(folder): judge(folder, args.lost) for folder in args.folders}
    print(table(rows))
    print(summary(rows))
    if args.out:
        write_json(args.out, rows)


if __name__ == '__main__':
    main()
