"""Print the figures of one or more metrics.json, with their mean, as a table.

python tools/analysis/print_metrics.py work_dirs/seed*/metrics.json
"""

import json

from prettytable import PrettyTable

from mmseg_more.engine.command_line import CommandParser, command

KEYS = ('seg/mIoU', 'lam/mIoU', 'cam/mIoU', 'fused/mIoU', 'cls/F1', 'cls/mAP')


def read(path: str) -> dict:
    """Figures of ``path``.

    Raises:
        ValueError: If they cannot be read.
    """
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise ValueError(
            f'{path} cannot be read: {error}. tools/test.py writes it with '
            '--cfg-options test_evaluator.out_json=FILE.'
        ) from error


def format_figures(paths) -> str:
    """Table of the files' figures, one row each, and the mean of several."""
    rows = [[read(path).get(key) for key in KEYS] for path in paths]
    table = PrettyTable(['file', *KEYS])
    table.align['file'] = 'l'

    def text(value):
        return '-' if value is None else f'{value:.1f}'

    for path, row in zip(paths, rows):
        table.add_row([path, *map(text, row)])
    if len(rows) > 1:
        columns = [[v for v in column if v is not None] for column in zip(*rows)]
        table.add_row(['mean', *(text(sum(c) / len(c) if c else None) for c in columns)])
    return table.get_string()


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument('files', nargs='+', help='metrics.json files')
    print(format_figures(parser.parse_args().files))


if __name__ == '__main__':
    main()
