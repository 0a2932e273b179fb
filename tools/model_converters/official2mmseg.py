"""Convert a checkpoint of the official MoRe code.

    python tools/model_converters/official2mmseg.py official.pth more_voc.pth

The report names every key: converted from what to what, left out and why, missing. The
written file loads with ``strict=True`` and carries the class names and their colours.
"""

import argparse
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from mmseg_more.apis.model_conversion import (
    DATASET_TYPES,
    class_names,
    convert_official_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.files import read_lines


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('src', help='checkpoint of the official code')
    parser.add_argument('dst', help='file to write')
    names = parser.add_mutually_exclusive_group()
    names.add_argument(
        '--dataset',
        choices=sorted(DATASET_TYPES),
        help='data set it was trained on (default: the one with as many classes)',
    )
    names.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='class names of another data set in the order of its labels, or a text file '
        'with one per line',
    )
    parser.add_argument('--dry-run', action='store_true', help='report only, write nothing')
    args = parser.parse_args(argv)
    if Path(args.src).resolve() == Path(args.dst).resolve():
        parser.error('SRC and DST are the same file; give DST another name')
    return args


def read_names(values: Optional[List[str]]) -> Optional[List[str]]:
    """Class names as given, or those in the file of that name."""
    if values and len(values) == 1 and Path(values[0]).is_file():
        return read_lines(values[0])
    return values


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    conversion, report = convert_official_checkpoint(read_checkpoint(args.src))
    print(report)
    if report.problems():
        raise ValueError('; '.join(report.problems()))
    meta = class_names(
        len(conversion.state_dict['classifier.weight']),
        args.dataset,
        read_names(args.classes),
    )
    if not args.dry_run:
        write_checkpoint(
            args.dst,
            conversion.state_dict,
            dict(dataset_meta=meta, converted_from=Path(args.src).name),
        )
    print(
        f'{args.dst}: {"not written (--dry-run)" if args.dry_run else "written"}, '
        f'classes {", ".join(meta["classes"])}'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
