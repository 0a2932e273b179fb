"""Draw how far the confidence of masks can be believed, from what tools/test.py wrote.

    python tools/test.py CONFIG CHECKPOINT --reliability figures.json
    python tools/analysis/plot_reliability.py figures.json reliability.png

Above, of the pixels: how often those of each confidence are right, against the diagonal of
a calibrated one (the area of a point is its share of the pixels). Below, of the images:
the error 1 - mIoU of those that are left when the least certain are rejected.
"""

import json
import sys
from typing import Any, Dict, Optional, Sequence

from mmseg_more.engine.command_line import CommandParser, command

PARTS = ('reliability', 'rejection')


def read(path: str) -> Dict[str, Any]:
    """Figures of ``path``.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no such file.
    """
    with open(path, encoding='utf-8') as file:
        try:
            figures = json.load(file)
        except ValueError as error:
            raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(figures, dict) or not all(figures.get(part) for part in PARTS):
        raise ValueError(
            f'{path} holds no diagrams of confidence: tools/test.py --reliability JSON '
            'writes them'
        )
    return figures


def draw(figures: Dict[str, Any], path: str, dpi: int = 80) -> None:
    """Write the picture: a column for each source."""
    import matplotlib

    matplotlib.use('agg')
    from matplotlib.figure import Figure

    sources = list(figures['rejection'])
    figure = Figure(figsize=(3.2 * len(sources), 6), layout='constrained')
    axes = figure.subplots(2, len(sources), squeeze=False)
    for source, above, below in zip(sources, *axes):
        _draw_reliability(above, figures['reliability'][source])
        above.set_title(f'{source}: ECE {figures[f"{source}/ECE"]:.1f} %')
        _draw_rejection(below, figures['rejection'][source])
        below.set_title(f'AURC {figures[f"{source}/AURC"]:.1f} %')
    figure.savefig(path, dpi=dpi)


def _draw_reliability(axes: Any, content: Dict[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color='gray', linewidth=1, linestyle=':')
    for name in ('pixels', 'foreground'):
        columns = (content[name][key] for key in ('confidence', 'accuracy', 'share'))
        bins = [row for row in zip(*columns) if None not in row]
        if bins:
            confidence, accuracy, share = zip(*bins)
            line = axes.plot(confidence, accuracy, linewidth=1, label=name)[0]
            sizes = [10 + 200 * value for value in share]
            axes.scatter(confidence, accuracy, sizes, color=line.get_color(), alpha=0.5)
    axes.set(xlabel='confidence', ylabel='share that is right', xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc='upper left', fontsize='small')


def _draw_rejection(axes: Any, content: Dict[str, Any]) -> None:
    rejected = content['rejected']
    axes.plot(rejected, content['error'], label='by confidence')
    axes.plot(rejected, content['ideal'], linestyle='--', label='by the true error')
    axes.axhline(content['random'], color='gray', linestyle=':', label='at random')
    axes.set(xlabel='images rejected', ylabel='1 - mIoU of the others', xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize='small')


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = CommandParser(__doc__)
    parser.add_argument('json', help='file of tools/test.py --reliability')
    parser.add_argument('out', help='picture to write (.png, .svg, .pdf)')
    parser.add_argument('--dpi', type=int, default=80, help='default: %(default)s')
    args = parser.parse_args(argv)
    draw(read(args.json), args.out, args.dpi)
    return 0


if __name__ == '__main__':
    sys.exit(main())
