"""Mixed precision without a GPU."""
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import OPTIM_WRAPPERS
from torch import nn

from mmseg_more.engine import optim
from mmseg_more.engine.optim import CPUAmpOptimWrapper, adapt_amp, enable_amp


def config(**wrapper):
    return Config(dict(optim_wrapper=dict(
        {'type': 'OptimWrapper', 'optimizer': dict(type='SGD', lr=.1)}, **wrapper)))


@pytest.fixture
def with_gpu(monkeypatch):
    monkeypatch.setattr(optim, 'without_accelerator', lambda: False)


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    monkeypatch.setattr(optim, 'without_accelerator', lambda: True)


@pytest.mark.parametrize('dtype, expected', [('bfloat16', torch.bfloat16),
                                             ('float32', torch.float32)])
def test_wrapper_autocasts(dtype, expected):
    model = nn.Linear(3, 2)
    wrapper = OPTIM_WRAPPERS.build(dict(
        type='CPUAmpOptimWrapper', dtype=dtype,
        optimizer=torch.optim.SGD(model.parameters(), lr=.1)))
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        out = model(torch.ones(1, 3))
        assert out.dtype is expected
        loss = out.float().sum()
    assert model(torch.ones(1, 3)).dtype is torch.float32
    wrapper.update_params(loss)
    # the gradient of each weight is 1: the masters are float32 and step by the rate
    torch.testing.assert_close(model.weight, before - .1)


def test_wrapper_accumulates_gradients():
    model = nn.Linear(3, 2)
    wrapper = CPUAmpOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=.1), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    before = model.weight.detach().clone()
    for _ in range(2):
        torch.testing.assert_close(model.weight, before)
        with wrapper.optim_context(model):
            loss = model(torch.ones(1, 3)).float().sum()
        wrapper.update_params(loss)
    torch.testing.assert_close(model.weight, before - .1)


def test_float16_has_no_loss_scale_on_the_cpu():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=.1)
    with pytest.raises(ValueError, match="needs dtype 'bfloat16'.*got 'float16'"):
        CPUAmpOptimWrapper(dtype='float16', optimizer=optimizer)


def test_amp_on_the_cpu():
    cfg = config()
    enable_amp(cfg)
    assert cfg.optim_wrapper.to_dict() == dict(
        type='CPUAmpOptimWrapper', optimizer=dict(type='SGD', lr=.1))


def test_amp_with_a_gpu(with_gpu):
    cfg = config(dtype='bfloat16')
    enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    assert cfg.optim_wrapper.dtype == 'bfloat16'
    cfg = config(type='AmpOptimWrapper', loss_scale=512.)
    enable_amp(cfg)
    assert cfg.optim_wrapper.loss_scale == 512.


def test_config_that_asks_for_amp():
    cfg = config(type='AmpOptimWrapper', loss_scale='dynamic', use_fsdp=False,
                 dtype='float16')
    adapt_amp(cfg)
    assert cfg.optim_wrapper.to_dict() == dict(
        type='CPUAmpOptimWrapper', dtype='bfloat16', optimizer=dict(type='SGD', lr=.1))


def test_config_without_amp_stays(with_gpu):
    for cfg in (config(), config(type='AmpOptimWrapper'), Config(dict())):
        before = cfg.to_dict()
        adapt_amp(cfg)
        assert cfg.to_dict() == before


def test_another_wrapper_is_refused():
    with pytest.raises(ValueError, match='got ApexOptimWrapper'):
        enable_amp(config(type='ApexOptimWrapper'))
