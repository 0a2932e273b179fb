"""A run of milliseconds: what the command lines are tested with.

Registers a linear model, a data set of eight numbers and a hook that records what
happened into the work folder, one file for each process.
"""

import json
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS

CONFIG = """
custom_imports = dict(imports=['mmseg_more', 'tiny_run'], allow_failed_imports=False)
default_scope = 'mmseg'
model = dict(type='TinyModel', num_classes=2)
dataset = dict(type='TinyDataset')
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=False),
    collate_fn=dict(type='default_collate'), dataset=dataset)
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'), dataset=dataset)
test_dataloader = val_dataloader
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(type='TinyMetric')
test_evaluator = val_evaluator
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=.1, betas=(.9, .999)))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False))
custom_hooks = [dict(type='TinyRecord'), dict(type='SanityCheckHook')]
log_processor = dict(by_epoch=False)
log_level = 'ERROR'
randomness = dict(seed=0)
"""


@MODELS.register_module()
class TinyModel(BaseModel):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, num_classes)
        self.seen, self.dtype = [], None

    def forward(self, inputs, index, mode='tensor'):
        out = self.classifier(inputs)
        if mode == 'loss':
            self.seen.extend(index.tolist())
            self.dtype = str(out.dtype)
            return dict(loss=F.mse_loss(out.float(), inputs[:, : out.shape[1]]))
        return [dict(index=i, value=v) for i, v in zip(index.tolist(), out.tolist())]


@DATASETS.register_module()
class TinyDataset(Dataset):
    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.rand(3, generator=generator), index=index)


@METRICS.register_module()
class TinyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(sample['index'] for sample in data_samples)

    def compute_metrics(self, results):
        return dict(samples=len(results), total=sum(results))


@HOOKS.register_module()
class TinyRecord(Hook):
    """Write what this process saw and what came out."""

    def __init__(self) -> None:
        self.first = None
        self.metrics = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.first = runner.iter if self.first is None else self.first

    def after_val_epoch(self, runner, metrics=None):
        self.metrics = metrics

    def after_test_epoch(self, runner, metrics=None):
        self.metrics = metrics

    def after_run(self, runner):
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        record = dict(
            world_size=get_world_size(),
            first=self.first,
            metrics=self.metrics,
            seen=model.seen,
            dtype=model.dtype,
            weight=model.classifier.weight.tolist(),
        )
        Path(runner.work_dir, f'rank{get_rank()}.json').write_text(json.dumps(record))


def read_record(work_dir, rank: int = 0) -> dict:
    return json.loads(Path(work_dir, f'rank{rank}.json').read_text())
