"""What a checkpoint that is chosen without masks loses against the best one.

    python tools/train.py configs/more/more_vit-t_shapes.py --work-dir work_dirs/a \\
        --cfg-options train_cfg.val_interval=100
    python tools/analysis/choose_checkpoint.py work_dirs/a work_dirs/b --out choice.json

Each folder holds a training with HealthHook that was validated several times. Of its
validations one is chosen by ``health/score``, by the F1 of the image labels (``cls/F1``),
and as the last one; what each choice gives is its true mIoU, beside that of the best. The
rank correlation (Spearman) is that of score and mIoU over the validations of a training,
and in the last line over those of all.
"""

import argparse
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from prettytable import PrettyTable
from scipy.stats import spearmanr

from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.evaluation.report import write_json

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scalars import read_scalars

SCORES = {'health': 'health/score', 'F1': 'cls/F1'}


class Validation(NamedTuple):
    """Figures of one validation."""

    step: int
    """Iterations that had been trained."""
    truth: float
    """mIoU by true masks, in percent."""
    scores: Dict[str, float]
    """What it can be chosen by, by the keys of ``SCORES``."""


def read_validations(folder: Path, truth: str) -> List[Validation]:
    """All validations of a training, in their order.

    Args:
        folder: Its work folder; of several runs in it (after a resume) all count.
        truth: Key of the mIoU.

    Raises:
        ValueError: If there are not two at least, with health and mIoU.
    """
    logged: Dict[int, Dict[str, float]] = {}
    for values in read_scalars(folder):
        # metrics and health are lines of their own
        logged.setdefault(int(values['step']), {}).update(values)
    found = {}
    for step, values in logged.items():
        if truth in values and all(key in values for key in SCORES.values()):
            scores = {name: values[key] for name, key in SCORES.items()}
            found[step] = Validation(step, values[truth], scores)
    if len(found) < 2:
        raise ValueError(
            f'{folder} holds {len(found)} validations with {truth} and '
            f'{", ".join(SCORES.values())} in */vis_data/scalars.json: train with '
            'HealthHook, true masks in the validation, and a train_cfg.val_interval that '
            'gives several'
        )
    return [found[step] for step in sorted(found)]


def judge(validations: Sequence[Validation]) -> Dict[str, float]:
    """What each choice gives: mIoU, and the rank correlation of each score."""
    best = max(validations, key=lambda v: v.truth)
    row = dict(best=best.truth, best_step=best.step, last=validations[-1].truth)
    for name in SCORES:
        chosen = max(validations, key=lambda v: v.scores[name])
        row[name] = chosen.truth
        row[f'{name}_step'] = chosen.step
        row[f'{name}_rank_correlation'] = rank_correlation(validations, name)
    return row


def rank_correlation(validations: Sequence[Validation], name: str) -> float:
    """Spearman's, of a score and the true mIoU."""
    result = spearmanr(
        [v.scores[name] for v in validations], [v.truth for v in validations]
    )
    return float(result.correlation)


def table(rows: Dict[str, Dict[str, float]]) -> str:
    columns = ['best', *SCORES, 'last', *(f'{name}_rank_correlation' for name in SCORES)]
    result = PrettyTable(['training', *(name.replace('_', ' ') for name in columns)])
    result.align = 'r'
    for name, row in rows.items():
        result.add_row([name] + [f'{row[c]:.2f}' if c in row else '' for c in columns])
    return f'mIoU in percent of the checkpoint that is chosen by ...\n{result.get_string()}'


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('folders', nargs='+', type=Path, help='work folders of trainings')
    parser.add_argument('--truth', default='seg/mIoU', help='default: %(default)s')
    parser.add_argument('--out', help='JSON file for the figures')
    return parser.parse_args(argv)


@command
def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    trainings = {str(f): read_validations(f, args.truth) for f in args.folders}
    rows = {name: judge(validations) for name, validations in trainings.items()}
    mean = {
        key: sum(row[key] for row in rows.values()) / len(rows)
        for key in ('best', *SCORES, 'last')
    }
    every = [v for validations in trainings.values() for v in validations]
    for name in SCORES:
        mean[f'{name}_rank_correlation'] = rank_correlation(every, name)
    rows['mean; all together'] = mean
    print(table(rows))
    if args.out:
        write_json(args.out, rows)


if __name__ == '__main__':
    main()
