"""Print the figures of one or more metrics.json, with their mean, as a table.

python tools/analysis/print_metrics.py work_dirs/seed*/metrics.json
"""

import argparse
import json
import sys

from prettytable import PrettyTable

KEYS = ('seg/mIoU', 'lam/mIoU', 'cam/mIoU', 'fused/mIoU', 'cls/F1', 'cls/mAP')


def read(path: str) -> dict:
    """Figures of ``path``; ends the program if they cannot be read."""
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, json.JSONDecodeError) as error:
        sys.exit(
            f'{path} cannot be read: {error}. tools/test.py writes it with '
            '--cfg-options test_evaluator.out_json=FILE.'
        )


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+', help='metrics.json files')
    print(format_figures(parser.parse_args().files))


if __name__ == '__main__':
    main()
