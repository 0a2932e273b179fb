"""Very small trainings that are watched by HealthHook.

A module of its own, so that other processes import it.
"""

import itertools
from unittest import mock

import torch
from mmengine.registry import DefaultScope
from torch import nn

from mask_run import config
from mmseg_more.evaluation import HealthHook

from mmseg.registry import MODELS

_NUMBERS = itertools.count()


def health_config(data, work_dir, health, hooks=(), max_iters=4, val_interval=2, **more):
    """A training on the images of ``mask_run.make_data``, validated by no metric."""
    cfg = config(data)
    cfg.merge_from_dict(
        {
            'model.losses.ptc.begin': 0,
            'model.losses.cre.begin': 0,
            'model.losses.ure.begin': 0,
            'model.losses.seg.begin': 1,
            'train_cfg': dict(max_iters=max_iters, val_interval=val_interval),
            'train_dataloader.batch_size': 2,
            'default_hooks.checkpoint': dict(
                interval=2, save_best='health/score', max_keep_ckpts=-1
            ),
            'default_hooks.localization.draw': False,
            **more,
        }
    )
    dataset = cfg.val_dataloader.dataset
    dataset.update(test_mode=True, with_masks=False)
    dataset.pipeline = [
        step for step in cfg.test_dataloader.dataset.pipeline if 'Annot' not in step['type']
    ]
    cfg.val_evaluator = []  # no metric at all
    for name in ('health', 'teacher'):  # validations are of the trained weights
        cfg.default_hooks.pop(name)
    cfg.custom_hooks = [*([] if health is None else [dict(health)]), *hooks]
    cfg.work_dir = str(work_dir)
    cfg.randomness = dict(seed=0)
    cfg.log_level = 'INFO'
    # Runners of one name share MMEngine's message hub and visualizer
    cfg.experiment_name = cfg.visualizer.name = f'health_{next(_NUMBERS)}'
    return cfg


def measure_rank(rank, world_size, data, folder):
    """One process of several; writes FOLDER/RANK.pt."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=world_size
    )
    torch.set_num_threads(1)
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save(figures_of(data, f'{folder}/work{rank}'), f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


def figures_of(data, work_dir):
    """Of the first five images, by a model that is always the same."""
    cfg = health_config(data, work_dir, None)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    nn.init.normal_(model.classifier.weight, std=0.1)
    hook = HealthHook(num_images=5, batch_size=1)
    runner = mock.Mock(model=model, cfg=cfg)
    runner.message_hub.get_info.return_value = None
    hook._prepare(runner)
    return hook._measure(model)._asdict()
