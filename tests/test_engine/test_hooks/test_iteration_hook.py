import pytest
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmseg_more.engine.hooks.iteration_hook  # noqa: F401  (registers)

from mmseg.registry import HOOKS


class RecordingModel(BaseModel):
    """Writes down what it saw at every training iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.iteration = 0
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.linear(torch.stack(inputs))
        if mode == 'loss':
            self.seen.append(self.iteration)
            return dict(loss=out.sum())
        return out


class PlainModel(RecordingModel):
    def __init__(self) -> None:
        super().__init__()
        del self.iteration


class Numbers(Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.full((2,), float(index)))


def train(model, work_dir, name, train_cfg, **kwargs):
    by_epoch = 'max_epochs' in train_cfg
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Numbers(),
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='IterationHook')],
        default_hooks=dict(
            logger=None,
            checkpoint=dict(
                type='CheckpointHook', interval=1 if by_epoch else 4, by_epoch=by_epoch
            ),
        ),
        default_scope='mmseg',
        experiment_name=name,
        **kwargs,
    )
    runner.train()
    return runner


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def test_is_registered_in_mmseg():
    assert HOOKS.get('IterationHook') is not None


@pytest.mark.slow
def test_iteration_based_and_resume(tmp_path):
    model = RecordingModel()
    train(model, tmp_path, 'iter', dict(by_epoch=False, max_iters=8))
    assert model.seen == list(range(8))

    resumed = RecordingModel()
    runner = train(
        resumed,
        tmp_path,
        'iter_resumed',
        dict(by_epoch=False, max_iters=10),
        load_from=str(tmp_path / 'iter_4.pth'),
        resume=True,
    )
    assert resumed.seen == list(range(4, 10))
    assert runner.iter == 10


def test_epoch_based_and_resume(tmp_path):
    model = RecordingModel()
    train(model, tmp_path, 'epoch', dict(by_epoch=True, max_epochs=2))
    assert model.seen == list(range(6))  # 3 batches per epoch

    resumed = RecordingModel()
    train(
        resumed,
        tmp_path,
        'epoch_resumed',
        dict(by_epoch=True, max_epochs=3),
        load_from=str(tmp_path / 'epoch_1.pth'),
        resume=True,
    )
    assert resumed.seen == list(range(3, 9))


def test_writes_through_a_model_wrapper(tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1
    )
    try:
        wrapper = MMDistributedDataParallel(RecordingModel(), broadcast_buffers=False)
        train(wrapper, tmp_path, 'ddp', dict(by_epoch=False, max_iters=3))
    finally:
        torch.distributed.destroy_process_group()
    assert wrapper.module.seen == [0, 1, 2]
    assert 'iteration' not in vars(wrapper)


def test_model_without_iteration(tmp_path):
    with pytest.raises(AttributeError, match='PlainModel has no attribute'):
        train(PlainModel(), tmp_path, 'plain', dict(by_epoch=False, max_iters=2))
