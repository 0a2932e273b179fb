"""Preparation of several processes; tests/test_tools runs two."""

import pytest
import torch.distributed as torch_dist
from mmengine.config import Config

from mmseg_more.engine import distributed
from mmseg_more.engine.distributed import on_main_process, prepare_distributed

LAUNCHED = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT='0')


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    monkeypatch.setattr(distributed, 'without_accelerator', lambda: True)
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    yield
    if torch_dist.is_initialized():
        torch_dist.destroy_process_group()


@pytest.mark.parametrize('launcher, gpu', [('none', False), ('pytorch', True)])
def test_nothing_to_prepare(monkeypatch, launcher, gpu):
    monkeypatch.setattr(distributed, 'without_accelerator', lambda: not gpu)
    cfg = Config(dict(launcher=launcher))
    assert prepare_distributed(cfg) is False
    assert 'model_wrapper_cfg' not in cfg and not torch_dist.is_initialized()


def test_gloo_is_there_before_the_runner():
    cfg = Config(
        dict(
            launcher='pytorch',
            find_unused_parameters=True,
            env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=60)),
        )
    )
    assert prepare_distributed(cfg) is True
    assert torch_dist.get_backend() == 'gloo'
    assert cfg.model_wrapper_cfg.to_dict() == dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        device_ids=None,
        find_unused_parameters=True,
    )
    # a second Runner of the process keeps the group
    assert prepare_distributed(cfg) is False


def test_own_wrapper_settings_are_kept():
    cfg = Config(
        dict(
            launcher='pytorch',
            model_wrapper_cfg=dict(
                type='MMDistributedDataParallel', broadcast_buffers=True, device_ids=[0]
            ),
        )
    )
    prepare_distributed(cfg)
    assert cfg.model_wrapper_cfg.broadcast_buffers is True
    assert cfg.model_wrapper_cfg.device_ids is None


def test_errors_of_the_main_process_are_those_of_all():
    """One process; tests/test_engine/test_hooks runs two."""

    def fail():
        raise OSError('full')

    assert on_main_process(lambda: 3) == 3
    with pytest.raises(OSError, match='full'):
        on_main_process(fail)
