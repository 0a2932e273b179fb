"""Time and memory of the mask of one large picture, from the command to its files.

    python benchmarks/large_image.py configs/more/more_vit-t_shapes.py [--size 4000x6000]
        [--classes 2] [--max-pixels N] [--runs infer masks] [--json FILE]

'infer' is ``tools/infer.py --source seg --multi-scale --crf``, which draws the picture too,
'masks' is ``tools/test.py --pseudo-labels --source lam --crf`` with an image label of all
classes. Weights are random; the image has a photograph's texture. Keys of the JSON file, by
run: ``seconds``; ``user_seconds``, CPU time of all processes, which other work on the
machine disturbs less; ``largest_mb``, peak of the largest process; ``all_mb``, of all
processes at a moment, shared pages counted once (Linux, sampled every 50 ms).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # when run as a file

from benchmarks.common import report
from benchmarks.common.process_tree import holdings
from benchmarks.crf import draw_image, parse_size
from mmseg_more.engine import launch
from mmseg_more.engine.command_line import CommandParser, command, pixel_limit

from mmseg.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
RUNS = dict(
    infer=['tools/infer.py', '--source', 'seg', '--multi-scale', '--crf'],
    masks=['tools/test.py', '--source', 'lam', '--crf'],
)
_SAMPLE_SECONDS = 0.05
_MB = 2**20


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument(
        '--size', type=parse_size, default=(4000, 6000), help='HxW (default: 4000x6000)'
    )
    parser.add_argument('--classes', type=int, default=2, help='K (default: 2)')
    parser.add_argument('--max-pixels', type=pixel_limit, help='as of the commands')
    parser.add_argument('--runs', nargs='+', choices=RUNS, default=list(RUNS))
    parser.add_argument('--json', help='JSON file to write')
    return parser.parse_args(argv)


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """Write ``images/large.jpg``, its label, ``config.py`` and ``weights.pth``."""
    (folder / 'images').mkdir()
    cv2.imwrite(str(folder / 'images/large.jpg'), draw_image('texture', args.size, 0))
    classes = ['background', *(f'class {index}' for index in range(args.classes))]
    (folder / 'labels.json').write_text(json.dumps(dict(large=classes[1:])))
    cfg = launch.load_config(args.config, {'model.num_classes': args.classes})
    cfg.model.pop('pretrained', None)
    _use_folder(cfg, folder, classes)
    cfg.dump(folder / 'config.py')
    init_default_scope('mmseg')
    torch.manual_seed(0)
    with report.quiet():
        model = MODELS.build(cfg.model)
    # untrained classifiers see nothing: let classes win
    torch.nn.init.normal_(model.classifier.weight, std=0.1)
    meta = dict(dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'weights.pth')


def _use_folder(cfg: Config, folder: Path, classes: List[str]) -> None:
    loader = cfg.test_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset = dict(
        type='ImageLevelDataset',
        data_root=str(folder),
        label_file='labels.json',
        data_prefix=dict(img_path='images', seg_map_path='no_masks'),
        metainfo=dict(classes=classes),
        pipeline=loader.dataset.pipeline,
    )


def arguments(run: str, folder: Path, args: argparse.Namespace) -> List[str]:
    """The command line of a run."""
    script, *options = RUNS[run]
    files = [str(folder / name) for name in ('config.py', 'weights.pth')]
    if run == 'infer':
        files.insert(0, str(folder / 'images/large.jpg'))
        options += ['--out-dir', str(folder / run)]
    else:
        options += ['--pseudo-labels', str(folder / run), '--work-dir', str(folder)]
    if args.max_pixels is not None:
        options += ['--max-pixels', str(args.max_pixels.value)]
    return [sys.executable, '-W', 'ignore', str(ROOT / script), *files, *options]


def measure(arguments: Sequence[str]) -> Dict[str, float]:
    """Run a command to its end.

    Raises:
        ChildProcessError: If it fails.
    """
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    begin, most = time.monotonic(), 0
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        most = max(most, holdings(process.pid).memory)
        time.sleep(_SAMPLE_SECONDS)
    seconds = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ChildProcessError(f'{arguments[3]} ended with status {process.returncode}')
    return dict(
        seconds=round(seconds, 1),
        user_seconds=round(usage.ru_utime, 1),
        largest_mb=round(usage.ru_maxrss * 1024 / _MB),
        all_mb=round(most / _MB),
    )


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(sys.argv[1:] if argv is None else argv)
    figures: Dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), args)
        for run in args.runs:
            figures[run] = measure(arguments(run, Path(name), args))
    header: Tuple[str, ...] = tuple(next(iter(figures.values())))
    rows = [[run, *measured.values()] for run, measured in figures.items()]
    print(report.table(['', *header], rows))
    report.write_json(args.json, dict(size=list(args.size), **figures))
    return 0


if __name__ == '__main__':
    sys.exit(main())
