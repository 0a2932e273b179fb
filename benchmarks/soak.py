"""Does a long run hold more and more? Memory, open files and processes while it runs.

    python benchmarks/soak.py training.json -- python tools/train.py CONFIG
    python benchmarks/soak.py masks.json -- python tools/test.py CONFIG CHECKPOINT ...
    python benchmarks/soak.py --plot soak.png training.json masks.json

Everything after ``--`` is the command that is watched, with all processes that it starts
(Linux). Its output goes to the screen. Compared are medians over a tenth of its time each:
the start (from 10 to 20 %: before, caches and workers come to be), the middle (45 to 55 %)
and the end (85 to 95 %). Keys of the JSON file: ``command``; ``seconds``; ``samples``, each
with ``time`` (seconds), ``memory`` (bytes, shared pages counted once), ``files`` and
``processes``.

The exit status is 1 if the command fails, or if a figure of the middle or the end is more
than 2 % above that of the start.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report
from benchmarks.common.process_tree import Holdings, holdings
from mmseg_more.engine.command_line import CommandParser, command

WINDOWS = dict(start=(0.1, 0.2), middle=(0.45, 0.55), end=(0.85, 0.95))
"""Parts of the time that are compared."""
TOLERANCE = 0.02
_MB = 2**20

Figures = Dict[str, Any]


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('json', nargs='+', help='file to write, or to draw with --plot')
    parser.add_argument('--plot', metavar='PNG', help='draw runs that were measured')
    parser.add_argument('--every', type=float, default=1.0, help='seconds (default: 1)')
    own, separator, args_of_command = _split(argv)
    args = parser.parse_args(own)
    args.command = args_of_command
    if bool(args.plot) == bool(separator):
        parser.error('give either --plot, or a command after --')
    if separator and (not args.command or len(args.json) > 1):
        parser.error('give one file to write, and a command after --')
    return args


def _split(argv: Sequence[str]) -> Any:
    if '--' not in argv:
        return argv, False, []
    place = list(argv).index('--')
    return argv[:place], True, list(argv[place + 1 :])


def watch(arguments: Sequence[str], every: float) -> Figures:
    """Run a command, and see what its processes hold.

    Args:
        arguments: The command and its arguments.
        every: Seconds from one sample to the next.

    Returns:
        Keys of the JSON file.

    Raises:
        ChildProcessError: If the command fails.
    """
    begin = time.monotonic()
    samples: List[Dict[str, float]] = []
    process = subprocess.Popen(arguments)
    try:
        while True:
            now, held = time.monotonic() - begin, holdings(process.pid)
            try:
                process.wait(every)
                break
            except subprocess.TimeoutExpired:
                samples.append(dict(time=round(now, 2), **held._asdict()))
    finally:
        process.terminate()
        process.wait()
    if process.returncode:
        raise ChildProcessError(f'the command ended with status {process.returncode}')
    seconds = round(time.monotonic() - begin, 2)
    return dict(command=list(arguments), seconds=seconds, samples=samples)


def medians(figures: Figures) -> Dict[str, Holdings]:
    """What was held at the start, in the middle and at the end.

    Raises:
        ValueError: If there is no sample of one of them.
    """
    result = {}
    for name, (begin, end) in WINDOWS.items():
        span = begin * figures['seconds'], end * figures['seconds']
        within = [s for s in figures['samples'] if span[0] <= s['time'] <= span[1]]
        if not within:
            raise ValueError(f'there is no sample at the {name}: lower --every')
        columns = zip(*([sample[key] for key in Holdings._fields] for sample in within))
        result[name] = Holdings(*map(statistics.median, columns))
    return result


def growth(held: Mapping[str, Holdings]) -> Dict[str, float]:
    """The share by which each figure of the middle or the end is above the start."""
    start = held['start']
    return {
        key: max(getattr(held[name], key) for name in ('middle', 'end')) / value - 1
        for key, value in start._asdict().items()
    }


def table(held: Mapping[str, Holdings]) -> str:
    """Rows: memory in MB, files, processes; columns: the moments and the growth."""
    more = growth(held)
    rows = [
        [
            'memory, MB' if key == 'memory' else key,
            *(
                round(getattr(held[name], key) / (_MB if key == 'memory' else 1))
                for name in WINDOWS
            ),
            f'{100 * more[key]:+.1f} %',
        ]
        for key in Holdings._fields
    ]
    return report.table(['', *WINDOWS, 'growth'], rows)


def draw(path: str, runs: Mapping[str, Figures]) -> None:
    """A column for each run, a row for each figure, over the minutes of the run."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(
        3, len(runs), figsize=(5 * len(runs), 5.4), squeeze=False, layout='constrained'
    )
    for column, (title, run) in enumerate(runs.items()):
        minutes = [sample['time'] / 60 for sample in run['samples']]
        for row, key in enumerate(Holdings._fields):
            scale, unit = (_MB, 'memory, MB') if key == 'memory' else (1, key)
            axis = grid[row, column]
            axis.plot(minutes, [sample[key] / scale for sample in run['samples']], lw=1)
            for window in WINDOWS.values():
                span = [part * run['seconds'] / 60 for part in window]
                axis.axvspan(*span, color='#8c8c8c', alpha=0.15, lw=0)
            axis.set_ylim(0, 1.15 * axis.dataLim.ymax)
            axis.set_ylabel(unit)
            axis.spines[['top', 'right']].set_visible(False)
        grid[0, column].set_title(title)
        grid[2, column].set_xlabel('minutes')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(sys.argv[1:] if argv is None else argv)
    if args.plot:
        runs = {Path(path).stem: json.loads(Path(path).read_text()) for path in args.json}
        draw(args.plot, runs)
        return 0
    try:
        figures = watch(args.command, args.every)
    except ChildProcessError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    report.write_json(args.json[0], figures)
    held = medians(figures)
    print(table(held))
    return int(max(growth(held).values()) > TOLERANCE)


if __name__ == '__main__':
    sys.exit(main())
