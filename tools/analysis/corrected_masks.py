"""What corrected masks are worth: train with 0, 5, 20, 50 of them, and compare.

    python tools/test.py configs/more/more_vit-t_shapes.py CHECKPOINT \
        --pseudo-labels work_dirs/masks --split train --source lam --crf
    python tools/analysis/corrected_masks.py work_dirs/masks --jobs 2 --markdown masks.md

True masks take the place of corrected ones: those of the images of which the masks in DIR
are least certain (image_confidence of its manifest.json), or of as many random ones, drawn
anew for each seed. All else is the same in all trainings. With the shapes, true masks lie
in data/shapes/SegmentationClass.

The same command goes on where it was interrupted: a training that has finished leaves
WORK_DIR/ROW/seedN/run.json and is not run again, others are started anew.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from mmseg_more.annotation import MaskSource
from mmseg_more.datasets.image_labels import name_few
from mmseg_more.datasets.mask_file import MaskFile, mask_file_content
from mmseg_more.datasets.preparation.split_lists import read_split
from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.files import write_bytes
from mmseg_more.image_files import without_suffix

sys.path.insert(0, str(Path(__file__).resolve().parent))
from study import runs as study_runs
from study.command import add_arguments, check_arguments, read_results, run_study
from study.report import (
    Results,
    check_settings,
    differences_table,
    means_table,
    missing_runs,
    provenance,
)
from study.rows import CODE, FULL, Row

NONE = 'none'
CHOICES = {'least-certain': 'least certain', 'random': 'random'}
OPTION = 'train_dataloader.dataset.mask_file'


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument(
        'masks', metavar='DIR', help='folder of masks of the training images'
    )
    add_arguments(parser, 'work_dirs/corrected_masks', [0, 1, 2])
    parser.add_argument(
        '--numbers',
        type=int,
        nargs='+',
        default=[0, 5, 20, 50],
        help='of corrected masks (default: 0 5 20 50)',
    )
    parser.add_argument(
        '--truth', type=Path, help="folder of true masks (default: the data's own)"
    )
    args = parser.parse_args(argv)
    args.numbers = sorted(set(args.numbers))
    check_arguments(parser, args)
    dataset = args.cfg.train_dataloader.dataset
    data_root, split = Path(dataset.get('data_root', '')), dataset.get('ann_file')
    args.truth = args.truth or data_root / 'SegmentationClass'
    args.source = MaskSource(args.masks)
    args.ranking = ranked_images(args.source, args.truth)
    if split:
        check_split(args.ranking, data_root / split)
    if not 0 <= args.numbers[0] <= args.numbers[-1] <= len(args.ranking):
        parser.error(f'--numbers are at least 0 and at most {len(args.ranking)}, the masks')
    args.rows = make_rows(args.numbers)
    args.names = list(args.rows)
    return args


def ranked_images(source: MaskSource, truth: Path) -> List[str]:
    """Names of the images of a folder of masks, the least certain first.

    Raises:
        FileNotFoundError: If the true mask of one is missing.
        ValueError: If it is not known how certain the mask of one is.
    """
    names = source.names()
    unknown = [n for n in names if source.entries[n].get('image_confidence') is None]
    if unknown:
        raise ValueError(
            f'{source.folder.root} does not say how certain the masks of {len(unknown)} '
            f'images are ({name_few(unknown)}): make them again'
        )
    missing = [name for name in names if not (truth / f'{name}.png').is_file()]
    if missing:
        raise FileNotFoundError(
            f'{truth} has no true masks of {len(missing)} of {len(names)} images '
            f'({name_few(missing)}): give their folder by --truth'
        )
    return names


def check_split(names: Sequence[str], path: Path) -> None:
    """Raise ValueError if an image is not trained on.

    Args:
        names: Of the images.
        path: Of the list of those that are trained on, with or without suffixes.
    """
    lines = read_split(path)
    trained = {*lines, *map(without_suffix, lines)}
    others = [name for name in names if name not in trained]
    if others:
        raise ValueError(
            f'{len(others)} of {len(names)} images with masks are not in {path} '
            f'({name_few(others)}): make the masks with --split train'
        )


def row_name(choice: str, number: int) -> str:
    return f'{choice}-{number}'


def make_rows(numbers: Sequence[int]) -> Dict[str, Row]:
    """All rows by name; their mask files depend on the seed as well."""
    rows = {}
    for number in numbers:
        if number == 0:
            rows[NONE] = Row('no corrected mask', FULL, CODE, {OPTION: None})
            continue
        for choice, label in CHOICES.items():
            row = Row(f'{number} {label}', FULL, CODE, {OPTION: None})
            rows[row_name(choice, number)] = row
    return rows


def chosen_images(ranking: Sequence[str], choice: str, number: int, seed: int) -> List[str]:
    """Names of the images that are corrected.

    Args:
        ranking: All names, the least certain first.
        choice: One of ``CHOICES``.
        number: How many. Fewer random ones are among more of the same seed.
        seed: Of the training, by which random ones are drawn.
    """
    if choice == 'random':
        ranking = np.random.default_rng(seed).permutation(sorted(ranking)).tolist()
    return list(ranking[:number])


def plan(args: argparse.Namespace) -> List[study_runs.Run]:
    """All trainings, seed by seed, so that seeds are soon complete; writes mask files."""
    work_dir = Path(args.work_dir)
    planned = []
    for seed in args.seeds:
        for name in args.names:
            options: Dict[str, Any] = {}
            if name != NONE:
                choice, number = name.rsplit('-', 1)
                images = chosen_images(args.ranking, choice, int(number), seed)
                options = {OPTION: str(write_mask_file(args, images))}
            planned.append(study_runs.make_run(args.cfg, work_dir, name, options, seed))
    return planned


def write_mask_file(args: argparse.Namespace, images: Sequence[str]) -> Path:
    """A mask file of true masks, named after its content.

    A finished run knows it by its name: with other images it has other settings.
    """
    masks = {name: str((args.truth / f'{name}.png').resolve()) for name in images}
    content = mask_file_content(MaskFile(args.source.classes, masks))
    digest = hashlib.sha256(content).hexdigest()[:12]
    path = Path(args.work_dir, 'mask_files', f'{digest}.json')
    if not path.exists():
        write_bytes(path, content)
    return path


def make_report(
    results: Results, rows: Mapping[str, Row], names: Sequence[str], seeds: Sequence[int]
) -> str:
    """The report, in Markdown.

    Raises:
        ValueError: If the runs do not compare.
    """
    check_settings(results, rows)
    with_masks = [name for name in names if name != NONE]
    against_none = [(f'{rows[name].label} - none', name, NONE) for name in with_masks]
    against_random = [
        (f'{rows[name].label} - random', name, row_name('random', int(name.split('-')[-1])))
        for name in with_masks
        if not name.startswith('random')
    ]
    parts = [
        provenance(results),
        missing_runs(results, names, seeds),
        'Means over the seeds with 95 % intervals (t), in percent but for the ratios.',
        means_table(results, rows),
        'Differences are paired by seed, bold where the interval excludes 0.',
        differences_table(results, against_none),
        differences_table(results, against_random),
    ]
    return '\n\n'.join(part for part in parts if part) + '\n'


def report(args: argparse.Namespace) -> None:
    """Print the report, and write it where that was asked for.

    Raises:
        ValueError: If runs do not compare, or there are none.
    """
    results = read_results(Path(args.work_dir), args.names, args.seeds)
    if not results:
        raise ValueError(f'{args.work_dir} holds no finished run of {" ".join(args.names)}')
    text = make_report(results, args.rows, args.names, args.seeds)
    print(text)
    if args.markdown:
        write_bytes(args.markdown, text.encode())


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    return run_study(args, lambda: plan(args), lambda: report(args))


if __name__ == '__main__':
    sys.exit(main())
