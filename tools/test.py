"""Test a segmentor; the arguments are those of MMSegmentation's tools/test.py.

    python tools/test.py configs/more/more_vit-b_voc.py work_dirs/more_vit-b_voc/iter_20000.pth

It adds to MMSegmentation's own script, which works on the same configs: misspelled keys
are errors, several metrics in one evaluator can be given --out, and --launcher works
without a GPU.
"""
import argparse
import os

from mmengine.config import DictAction

from mmseg_more.engine import launch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='MMSeg test (and eval) a model')
    parser.add_argument('config', help='train config file path')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--work-dir',
        help='if specified, the evaluation metric results will be dumped into the '
        'directory as json')
    parser.add_argument(
        '--out', help='the directory to save output predictions for offline evaluation')
    parser.add_argument('--show', action='store_true', help='show prediction results')
    parser.add_argument(
        '--show-dir', help='directory where painted images will be saved')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='the interval of show (s)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override some settings in the used config, the key-value pair in xxx=yyy '
        'format will be merged into config file (see tools/train.py --help)')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher')
    parser.add_argument('--tta', action='store_true', help='test time augmentation')
    # torch.distributed.launch passes --local-rank, torchrun the environment variable
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    try:
        launch.check_checkpoint(args.checkpoint)
        args.cfg = launch.load_config(args.config, args.cfg_options, args.launcher,
                                      args.work_dir)
        _apply(args)
        launch.prepare_machine(args.cfg)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    return args


def _apply(args: argparse.Namespace) -> None:
    cfg = args.cfg
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        launch.show_predictions(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        launch.use_tta(cfg)
    if args.out is not None:
        launch.set_output_dir(cfg, args.out)


def main() -> None:
    launch.build_runner(parse_args().cfg).test()
    launch.finish()


if __name__ == '__main__':
    main()
