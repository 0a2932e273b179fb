"""Trainings of a tiny MoRe that write down its iteration at each step.

A module of its own, so that other processes import it.
"""

import itertools
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.utils.data import Dataset

from golden import data_samples
from tiny_model import tiny_config

from mmseg.registry import MODELS

LOSSES = dict(cls=dict(type='MultiLabelSoftMarginLoss'))  # one pass per step
BY_ITER = dict(by_epoch=False, max_iters=6)
BY_EPOCH = dict(by_epoch=True, max_epochs=2)  # of 3 batches

_NUMBERS = itertools.count()


class Images(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        (sample,) = data_samples(torch.tensor([[1, 0, 1]]))
        image = torch.full((3, 64, 64), 9 * index, dtype=torch.uint8)
        return dict(inputs=image, data_samples=sample)


def model(**overrides):
    """With a list `seen` of the iteration at each step."""
    net = MODELS.build(tiny_config(losses=LOSSES, **overrides))  # iteration never set
    net.data_preprocessor.size = (64, 64)  # no padding to a crop of 448
    # not an attribute: it would be copied with the model
    seen = []
    net.backbone.register_forward_pre_hook(lambda *_: seen.append(net.iteration))
    return net, seen


def train(net, folder, train_cfg=BY_ITER, name=None, **options):
    """Train a model as it is; returns the Runner."""
    wrapper = options.pop('optim_wrapper', {})
    by_epoch = train_cfg.get('by_epoch', False)
    hooks = dict(
        logger=None,
        checkpoint=dict(
            type='CheckpointHook', interval=1 if by_epoch else 2, by_epoch=by_epoch
        ),
    )
    with (
        DefaultScope.overwrite_default_scope('mmseg'),
        mock.patch.object(Config, 'pretty_text', ''),  # slow, and not looked at
    ):
        runner = Runner(
            model=net,
            work_dir=str(folder),
            train_dataloader=dict(
                dataset=options.pop('dataset', None) or Images(),
                batch_size=2,
                num_workers=0,
                collate_fn=dict(type='pseudo_collate'),
                # that of iterations would wait for two seconds after each epoch
                sampler=dict(
                    type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=False
                ),
            ),
            train_cfg=train_cfg,
            optim_wrapper=dict(dict(optimizer=dict(type='SGD', lr=1e-4)), **wrapper),
            default_hooks=dict(hooks, **options.pop('default_hooks', {})),
            default_scope='mmseg',
            log_level='WARNING',
            # Runners of one name share MMEngine's message hub
            experiment_name=name or f'iteration_{next(_NUMBERS)}',
            **options,
        )
        runner.train()
    return runner


def train_rank(rank, world_size, folder, hooks):
    """One process of several; writes FOLDER/RANK.pt."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=world_size
    )
    torch.set_num_threads(1)
    net, seen = model()
    train(
        MMDistributedDataParallel(net),
        f'{folder}/{rank}',
        custom_hooks=[dict(type=name) for name in hooks],
    )
    torch.save(seen, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()
