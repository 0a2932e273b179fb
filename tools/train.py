"""Train a segmentor; the arguments are those of MMSegmentation's tools/train.py.

    python tools/train.py configs/more/more_vit-b_voc.py
    torchrun --nproc_per_node 2 tools/train.py CONFIG --launcher pytorch

It adds to MMSegmentation's own script, which works on the same configs: misspelled keys
are errors, --amp and --launcher work without a GPU, --auto-scale-lr is that of MMPretrain,
resume=True in a config is kept, and a training that is resumed goes on as if it had not
been interrupted (docs/questions.md).
"""

import argparse
import os
import shlex
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import find_latest_checkpoint

from mmseg_more.engine import launch
from mmseg_more.engine.command_line import CommandParser, add_config_options, command
from mmseg_more.engine.sharding import keep_whole
from mmseg_more.engine.training_checks import check_writable


def parse_args() -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='train config file path')
    parser.add_argument('--work-dir', help='the dir to save logs and models')
    parser.add_argument(
        '--resume',
        action='store_true',
        help='resume from the latest checkpoint in the work_dir automatically, whatever '
        'load_from says; the same as resume=True in the config',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='enable automatic-mixed-precision training: float16 on a GPU unless '
        'optim_wrapper.dtype says otherwise, bfloat16 on the CPU',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size of all processes together, over '
        'auto_scale_lr.base_batch_size; like auto_scale_lr.enable=True in the config',
    )
    add_config_options(
        parser,
        help='override some settings in the used config, the key-value pair in xxx=yyy '
        'format will be merged into config file. If the value to be overwritten is a '
        'list, it should be like key="[a,b]" or key=a,b. It also allows nested '
        'list/tuple values, e.g. key="[(a,b),(c,d)]". The quotation marks are necessary '
        'and no white space is allowed.',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch passes --local-rank, torchrun the environment variable
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    args.cfg = launch.load_config(
        args.config, args.cfg_options, args.launcher, args.work_dir, args.amp
    )
    if args.auto_scale_lr:
        launch.enable_auto_scale_lr(args.cfg)
    launch.prepare_machine(args.cfg)
    check_writable(args.cfg.work_dir)
    launch.use_resumable_loop(args.cfg)
    return args


def train(cfg: Config) -> None:
    kept = keep_whole(cfg) if cfg.launcher == 'none' else None
    resumed = launch.choose_resumed(cfg)
    runner = launch.build_runner(cfg)
    for line in filter(None, (kept, resumed)):
        runner.logger.info(line)
    runner.train()
    if is_main_process():
        print(f'next: {_next_command(runner.work_dir, cfg.filename)}')


def _next_command(work_dir: str, config: str) -> str:
    """What infers with the copy of the config and the newest checkpoint."""
    files = [f'{work_dir}/{Path(config).name}', f'{work_dir}/{_newest(work_dir)}']
    return f'python -m mmseg_more infer IMAGES {shlex.join(files)}'


def _newest(work_dir: str) -> str:
    """Name of the checkpoint that a training wrote last."""
    return Path(find_latest_checkpoint(work_dir) or 'CHECKPOINT').name


@command
def main() -> None:
    args = parse_args()
    if args.resume:
        args.cfg.resume = True
    status = None
    try:
        train(args.cfg)
    except SystemExit as end:  # by a signal; the exception holds the runner
        status = end.code
    launch.finish()
    if status is not None:
        raise SystemExit(status)


if __name__ == '__main__':
    main()
