"""Losses that begin in the middle of accumulated gradients, averages and batch norms."""

import copy

import pytest
import torch
from mmengine.hooks import Hook
from torch.testing import assert_close

from iteration_run import BY_ITER, Images, train
from tiny_model import tiny_config, tiny_model

BEGIN = 2  # of the segmentation
LR = 0.05


def scheduled_model(**overrides):
    """``ptc`` counts from iteration 2 on, ``seg`` from 3 on; nothing is random."""
    cfg = tiny_config()
    losses = {name: cfg.losses[name] for name in ('cls', 'mct', 'ptc', 'seg')}
    losses['ptc'].begin, losses['seg'].begin = BEGIN - 1, BEGIN
    net = tiny_model(losses=losses, localization=dict(scales=(1.0,)), **overrides)
    net.data_preprocessor.size = (64, 64)
    return net


def state_of(net):
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


class RecordHook(Hook):
    """States after each iteration, of what it is given."""

    priority = 'VERY_LOW'  # after the averages

    def __init__(self, get_module):
        self.get_module = get_module
        self.states = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append(state_of(self.get_module(runner)))


def train_and_record(net, folder, get_modules, max_iters=7, counts=1, **options):
    """Lists of the states after each iteration, one for each of ``get_modules``."""
    hooks = [RecordHook(get_module) for get_module in get_modules]
    train(
        net,
        folder,
        dict(BY_ITER, max_iters=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=LR), accumulative_counts=counts),
        param_scheduler=[dict(type='PolyWarmupLR', warmup_iters=4, by_epoch=False)],
        custom_hooks=[*options.pop('custom_hooks', []), *hooks],
        **options,
    )
    return [hook.states for hook in hooks]


def rate(iteration, max_iters=7):
    """Learning rate: a warm-up of 4 iterations, then the decay."""
    if iteration < 4:
        return LR * (1 - (1 - iteration / 4) * (1 - 1e-6))
    return LR * (1 - iteration / max_iters) ** 0.9


def losses_at(net, iteration):
    samples = [Images()[(2 * iteration + i) % len(Images())] for i in range(2)]
    batch = dict(
        inputs=[sample['inputs'] for sample in samples],
        data_samples=[sample['data_samples'] for sample in samples],
    )
    net.iteration = iteration
    return net.loss(**net.data_preprocessor(batch, training=True))


@pytest.mark.slow
def test_accumulated_gradient_is_the_mean(tmp_path):
    """Of windows of three iterations, the last of which is shorter."""
    net = scheduled_model()
    alone = copy.deepcopy(net)
    (states,) = train_and_record(net, tmp_path, [lambda runner: net], counts=3)

    alone.train()
    for window in ([0, 1, 2], [3, 4, 5], [6]):
        for iteration in window[:-1]:
            assert_close(states[iteration], state_of(alone), rtol=1e-6, atol=1e-6)
        losses = [sum(losses_at(alone, iteration).values()) for iteration in window]
        alone.zero_grad()
        (sum(losses) / len(window)).backward()
        before = state_of(alone)
        with torch.no_grad():
            for parameter in alone.parameters():
                # of the iteration that updates the weights
                parameter -= rate(window[-1]) * parameter.grad
        assert_close(states[window[-1]], state_of(alone), rtol=1e-6, atol=1e-6)
        change = (alone.classifier.weight - before['classifier.weight']).abs().max()
        assert change > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize('hook, counts', [('EMAHook', 1), ('MeanTeacherHook', 2)])
def test_average_follows_each_iteration(tmp_path, hook, counts):
    """Also where a loss begins, and in iterations that only accumulate gradients."""
    net = scheduled_model()
    first = state_of(net)

    def average(runner):
        return next(each for each in runner.hooks if hasattr(each, 'ema_model')).ema_model

    ema = dict(type=hook, ema_type='ExponentialMovingAverage', momentum=0.25)
    weights, averages = train_and_record(
        net,
        tmp_path,
        [lambda runner: net, lambda runner: average(runner).module],
        counts=counts,
        custom_hooks=[ema],
    )
    expected = weights[0]  # MMEngine's first update is a copy
    for step, (state, averaged) in enumerate(zip(weights, averages)):
        expected = {
            name: value + (0.25 if step else 1.0) * (state[name] - value)
            for name, value in expected.items()
        }
        assert_close(averaged, expected, rtol=1e-6, atol=1e-7)
    head = 'decode_head.conv_seg.weight'
    # what no loss has reached yet has a gradient of zero, and stands still
    assert torch.equal(averages[BEGIN][head], first[head])
    assert not torch.equal(averages[-1][head], first[head])


@pytest.mark.slow
@pytest.mark.parametrize('hooks', [(), ('MeanTeacherHook',)], ids=['no hook', 'teacher'])
def test_batch_norm_sees_each_batch_once(tmp_path, hooks):
    """From the iteration on in which the segmentation counts; not the passes for maps."""
    head = dict(tiny_config().decode_head, norm_cfg=dict(type='BN'))
    net = scheduled_model(decode_head=head)
    seen = []
    net.decode_head.conv1.bn.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].detach().mean((0, 2, 3)))
    )
    (states,) = train_and_record(
        net, tmp_path, [lambda runner: net], 6, custom_hooks=[dict(type=h) for h in hooks]
    )
    bn = 'decode_head.conv1.bn'
    counted = [int(state[f'{bn}.num_batches_tracked']) for state in states]
    assert counted == [0, 0, 0, 1, 2, 3] and len(seen) == 3
    expected = torch.zeros(16)
    for mean in seen:
        expected += 0.1 * (mean - expected)
    assert_close(states[-1][f'{bn}.running_mean'], expected)
    for name in ('weight', 'bias'):
        values = [state[f'{bn}.{name}'] for state in states]
        assert torch.equal(values[0], values[BEGIN])
        assert not torch.equal(values[BEGIN], values[-1])
