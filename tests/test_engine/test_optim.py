"""Few groups and fused steps; mixed precision without a GPU."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from torch import nn

import tiny_run
from mmseg_more.engine import optim
from mmseg_more.engine.optim import CPUAmpOptimWrapper, adapt_amp, enable_amp

from mmseg.registry import OPTIM_WRAPPERS


def config(**wrapper):
    return Config(
        dict(
            optim_wrapper=dict(
                {'type': 'OptimWrapper', 'optimizer': dict(type='SGD', lr=0.1)}, **wrapper
            )
        )
    )


@pytest.fixture
def with_gpu(monkeypatch):
    monkeypatch.setattr(optim, 'without_accelerator', lambda: False)


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    monkeypatch.setattr(optim, 'without_accelerator', lambda: True)


@pytest.mark.parametrize(
    'dtype, expected', [('bfloat16', torch.bfloat16), ('float32', torch.float32)]
)
def test_wrapper_autocasts(dtype, expected):
    model = nn.Linear(3, 2)
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='CPUAmpOptimWrapper',
            dtype=dtype,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        )
    )
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        out = model(torch.ones(1, 3))
        assert out.dtype is expected
        loss = out.float().sum()
    assert model(torch.ones(1, 3)).dtype is torch.float32
    wrapper.update_params(loss)
    # the gradient of each weight is 1: the masters are float32 and step by the rate
    torch.testing.assert_close(model.weight, before - 0.1)


def test_wrapper_accumulates_gradients():
    model = nn.Linear(3, 2)
    wrapper = CPUAmpOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2
    )
    wrapper.initialize_count_status(model, 0, 4)
    before = model.weight.detach().clone()
    for _ in range(2):
        torch.testing.assert_close(model.weight, before)
        with wrapper.optim_context(model):
            loss = model(torch.ones(1, 3)).float().sum()
        wrapper.update_params(loss)
    torch.testing.assert_close(model.weight, before - 0.1)


def test_float16_has_no_loss_scale_on_the_cpu():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="needs dtype 'bfloat16'.*got 'float16'"):
        CPUAmpOptimWrapper(dtype='float16', optimizer=optimizer)


def test_amp_on_the_cpu():
    cfg = config()
    enable_amp(cfg)
    assert cfg.optim_wrapper.to_dict() == dict(
        type='CPUAmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1)
    )


def test_amp_with_a_gpu(with_gpu):
    cfg = config()
    enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    cfg = config(dtype='bfloat16')
    enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == dict(enabled=False)  # the range of float32
    assert cfg.optim_wrapper.dtype == 'bfloat16'
    cfg = config(type='AmpOptimWrapper', loss_scale=512.0)
    enable_amp(cfg)
    assert cfg.optim_wrapper.loss_scale == 512.0


def test_config_that_asks_for_amp():
    cfg = config(
        type='AmpOptimWrapper', loss_scale='dynamic', use_fsdp=False, dtype='float16'
    )
    adapt_amp(cfg)
    assert cfg.optim_wrapper.to_dict() == dict(
        type='CPUAmpOptimWrapper', dtype='bfloat16', optimizer=dict(type='SGD', lr=0.1)
    )


def test_config_without_amp_stays(with_gpu):
    for cfg in (config(), config(type='AmpOptimWrapper'), Config(dict())):
        before = cfg.to_dict()
        adapt_amp(cfg)
        assert cfg.to_dict() == before


def test_another_wrapper_is_refused():
    with pytest.raises(ValueError, match='got ApexOptimWrapper'):
        enable_amp(config(type='ApexOptimWrapper'))


# ------------------------------------------------------------ merged groups
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def wrapper_for(model, constructor='MergedOptimWrapperConstructor', **optimizer):
    cfg = Config(
        dict(
            optim_wrapper=dict(
                type='OptimWrapper',
                constructor=constructor,
                optimizer={'type': 'AdamW', 'lr': 0.1, 'weight_decay': 0.01, **optimizer},
                paramwise_cfg=dict(
                    custom_keys={'2.': dict(lr_mult=10.0)}, norm_decay_mult=0.0
                ),
            )
        )
    )
    return build_optim_wrapper(model, cfg.optim_wrapper)


def test_groups_with_equal_settings_are_merged():
    model = network()
    groups = wrapper_for(model).optimizer.param_groups
    assert [type(group) for group in groups] == 3 * [dict]
    assert [(group['lr'], group['weight_decay']) for group in groups] == [
        (0.1, 0.01),
        (0.1, 0),
        (1.0, 0.01),
    ]
    for group, layer in zip(groups, model):
        assert {id(p) for p in group['params']} == {id(p) for p in layer.parameters()}


@pytest.mark.parametrize('kind', ['AdamW', 'SGD', 'RMSprop'])  # the last is never fused
def test_same_steps_as_with_single_groups(kind):
    found = []
    for constructor in ('MergedOptimWrapperConstructor', 'DefaultOptimWrapperConstructor'):
        model = network()
        wrapper = wrapper_for(model, constructor, type=kind)
        for _ in range(3):
            wrapper.update_params(model(torch.ones(1, 3)).square().sum())
        found.append(list(model.parameters()))
    torch.testing.assert_close(*found)


def fused(wrapper):
    return {bool(group.get('fused')) for group in wrapper.optimizer.param_groups}


def test_fused_where_pytorch_has_it(monkeypatch):
    """A PyTorch without the kernel says so when the optimizer is built."""

    class OldAdamW(torch.optim.AdamW):
        def __init__(self, params, lr, weight_decay, fused=None):
            if fused:
                raise RuntimeError('`fused=True` requires all the params to be on cuda')
            super().__init__(params, lr=lr, weight_decay=weight_decay)

    assert fused(wrapper_for(network(), type=OldAdamW)) == {False}
    try:
        torch.optim.AdamW(network().parameters(), fused=True)
    except RuntimeError:
        assert fused(wrapper_for(network())) == {False}
    else:
        assert fused(wrapper_for(network())) == {True}


@pytest.mark.parametrize('form', [dict(fused=False), dict(foreach=True)])
def test_the_form_that_the_config_asks_for(form):
    wrapper = wrapper_for(network(), **form)
    assert fused(wrapper) == {False}
    ((name, value),) = form.items()
    assert wrapper.optimizer.param_groups[0][name] is value


def test_wrong_argument_of_the_optimizer():
    with pytest.raises(TypeError, match='wieght_decay'):
        wrapper_for(network(), wieght_decay=0.1)


@pytest.mark.slow
def test_compiled_step_of_mmengine(tmp_path):
    """MMEngine's own `compile`, which takes the optimizer's step in, next to groups."""
    cfg = Config.fromstring(tiny_run.CONFIG, '.py')
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path),
            'optim_wrapper.constructor': 'MergedOptimWrapperConstructor',
            'optim_wrapper.paramwise_cfg': dict(custom_keys={'bias': dict(lr_mult=10.0)}),
        }
    )
    records = []
    for compiled in (True, False):
        cfg.compile = compiled and dict(backend='eager')
        cfg.experiment_name = f'compiled_{compiled}'
        Runner.from_cfg(cfg).train()
        records.append(tiny_run.read_record(tmp_path))
        torch._dynamo.reset()
    assert records[0] == records[1]
