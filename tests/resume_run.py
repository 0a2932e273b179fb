"""Trainings of a very small MoRe that are resumed, and what of two has to be the same.

A module of its own, so that other processes import it.
"""

import os
from pathlib import Path

import torch
from mmengine.registry import DefaultScope

from health_run import health_config
from mask_run import train
from mmseg_more.engine import launch

LENGTH = 7  # iterations; a validation after 3, 6 and 7


def resume_config(data, work_dir, checkpoint=None, **options):
    """With a checkpoint after each iteration, resumed from a file if one is given."""
    cfg = health_config(
        data,
        work_dir,
        dict(type='HealthHook', interval=3),
        max_iters=LENGTH,
        val_interval=3,
        **{
            'default_hooks.checkpoint': dict(
                interval=1, save_best='health/score', max_keep_ckpts=-1
            ),
            'default_hooks.logger.interval': 1,
            **options,
        },
    )
    if 'optim_wrapper.accumulative_counts' in options:
        # has moved on when the gradients are accumulated again
        cfg.default_hooks.pop('teacher', None)
    if checkpoint is not None:
        cfg.resume, cfg.load_from = True, str(checkpoint)
    return cfg


def run(cfg):
    """Train, and end the workers of the loader."""
    runner = train(cfg)
    # they would be ended by a garbage collection, which waits for 5 s for each
    runner.train_loop.dataloader_iterator = None
    return runner


def train_rank(rank, world_size, data, folder, checkpoint):
    """One process of several."""
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=world_size
    )
    torch.set_num_threads(1)
    with DefaultScope.overwrite_default_scope('mmseg'):
        cfg = resume_config(Path(data), folder, checkpoint)
        cfg.launcher = 'pytorch'
        cfg.experiment_name = 'two_processes'
        launch.prepare_machine(cfg)
        run(cfg)
    launch.finish()


def log_of(work_dir):
    return '\n'.join(path.read_text() for path in Path(work_dir).glob('*/*.log'))


def state_of(work_dir):
    """All of the last checkpoint that a training decides: no times, no names."""
    path = Path(work_dir) / f'iter_{LENGTH}.pth'
    checkpoint = torch.load(path, weights_only=False)
    hub = checkpoint['message_hub']
    return dict(
        weights=checkpoint['state_dict'],
        optimizer=checkpoint['optimizer'],
        schedulers=[
            {key: value for key, value in schedule.items() if key != 'param_name'}
            for schedule in checkpoint['param_schedulers']
        ],
        scalars={
            key: buffer.data[0].tolist()
            for key, buffer in hub['log_scalars'].items()
            if 'time' not in key and 'memory' not in key
        },
        best_score=hub['runtime_info'].get('best_score'),
        iteration=hub['runtime_info']['iter'],
        health=hub['runtime_info'].get('health/state'),
    )


def assert_same(work_dir, other):
    """Bit for bit."""
    torch.testing.assert_close(
        state_of(work_dir), state_of(other), rtol=0, atol=0, equal_nan=True
    )
