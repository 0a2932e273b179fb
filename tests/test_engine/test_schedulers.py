import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from mmengine.hooks import Hook

import iteration_run
from golden import Golden
from mmseg_more.engine.schedulers import PolyWarmupLR

from mmseg.registry import PARAM_SCHEDULERS


def _optimizer(*rates):
    return torch.optim.AdamW(
        [dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=lr) for lr in rates]
    )


def rates_of(scheduler, optimizer, steps):
    seen = []
    for _ in range(steps):
        seen.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


def test_matches_the_reference():
    golden = Golden('ops')
    optimizer = _optimizer(6e-5, 6e-4)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='PolyWarmupLR', optimizer=optimizer, end=20000, by_epoch=False)
    )
    rates = []
    for _ in range(20000):
        rates.append([g['lr'] for g in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    rates = torch.tensor(rates, dtype=torch.double)
    torch.testing.assert_close(rates[::100, 0], golden['lr_every_100'], rtol=1e-9, atol=0)
    torch.testing.assert_close(
        rates[:1600:50, 0], golden['lr_first_1600_every_50'], rtol=1e-9, atol=0
    )
    torch.testing.assert_close(rates[:, 1], rates[:, 0] * 10)


def test_resume():
    """A resumed schedule goes on where it was."""

    def run(scheduler, optimizer, steps):
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
        return optimizer.param_groups[0]['lr']

    kwargs = dict(warmup_iters=3, end=20)
    optimizer = _optimizer(1.0)
    scheduler = PolyWarmupLR(optimizer, **kwargs)
    run(scheduler, optimizer, 7)
    state = scheduler.state_dict(), optimizer.state_dict()
    expected = run(scheduler, optimizer, 5)
    resumed = _optimizer(1.0)
    again = PolyWarmupLR(resumed, **kwargs)
    again.load_state_dict(state[0])
    resumed.load_state_dict(state[1])
    assert run(again, resumed, 5) == expected


@pytest.mark.parametrize('end, steps', [(10, 7), (30, 7), (30, 20), (10, 13)])
def test_resume_with_another_end(end, steps):
    """From there on the rates of a schedule of that length."""

    def schedule(end, steps=0):
        optimizer = _optimizer(1.0, 10.0)
        scheduler = PolyWarmupLR(optimizer, warmup_iters=3, end=end)
        return scheduler, optimizer, rates_of(scheduler, optimizer, steps)

    planned, optimizer, _ = schedule(20, steps)
    resumed, other, _ = schedule(end)
    other.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(planned.state_dict())
    assert rates_of(resumed, other, 4) == schedule(end, steps + 4)[2][steps:]
    assert resumed.state_dict()['end'] == end


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(end=10, by_epoch=True), 'loop of iterations'),
        (dict(end=10, warmup_epochs=1), 'convert_to_iter_based=True'),
        (dict(), 'needs `end`'),
        (dict(end=10, warmup_iters=-1), 'must be >= 0'),
    ],
)
def test_impossible_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PolyWarmupLR(_optimizer(1.0), **kwargs)


@st.composite
def schedules(draw):
    """Arguments of a schedule, its warm-up longer than the training, too."""
    begin = draw(st.integers(0, 3))
    return dict(
        warmup_iters=draw(st.integers(0, 12)),
        warmup_ratio=draw(st.floats(0, 1)),
        power=draw(st.floats(0, 3)),
        begin=begin,
        end=begin + draw(st.integers(1, 12)),
    )


@given(schedules())
def test_factors_of_any_schedule(arguments):
    begin, end, warmup = (arguments[key] for key in ('begin', 'end', 'warmup_iters'))
    optimizer = _optimizer(2.0, 3.0)
    rates = rates_of(PolyWarmupLR(optimizer, **arguments), optimizer, end + 3)
    for iteration, (low, high) in enumerate(rates):
        step = min(iteration, end - 1) - begin
        if step < 0:
            factor = 1.0
        elif step < warmup:
            factor = arguments['warmup_ratio'] * (1 - step / warmup) + step / warmup
        else:
            factor = (1 - step / (end - begin)) ** arguments['power']
        assert low == pytest.approx(2 * factor) and high == pytest.approx(3 * factor)
        assert 0 <= low <= 2


@example(dict(warmup_iters=0, warmup_ratio=0.0, power=1.0, begin=1, end=2), 0, 2)
@given(schedules(), st.integers(0, 16), st.integers(1, 12))
def test_resumed_anywhere_with_any_end(arguments, steps, length):
    """From the iteration on, the rates are those of a training of that length; the example
    is resumed before its begin."""
    other = dict(arguments, end=arguments['begin'] + length)
    optimizer, resumed, whole = (_optimizer(2.0, 3.0) for _ in range(3))
    first = PolyWarmupLR(optimizer, **arguments)
    rates_of(first, optimizer, steps)
    scheduler = PolyWarmupLR(resumed, **other)
    resumed.load_state_dict(optimizer.state_dict())
    scheduler.load_state_dict(first.state_dict())
    expected = rates_of(PolyWarmupLR(whole, **other), whole, steps + 6)[steps:]
    assert rates_of(scheduler, resumed, 6) == expected


# ------------------------------------------------------------------- epochs
def _converted(optimizer, epoch_length=5, **kwargs):
    """As MMEngine's Runner builds it."""
    return PARAM_SCHEDULERS.build(
        dict(type='PolyWarmupLR', by_epoch=True, convert_to_iter_based=True, **kwargs),
        default_args=dict(optimizer=optimizer, epoch_length=epoch_length),
    )


@pytest.mark.parametrize(
    'epochs, iterations',
    [
        (dict(end=4, warmup_epochs=1), dict(end=20, warmup_iters=5)),
        (dict(end=4, warmup_epochs=0.5), dict(end=20, warmup_iters=2)),
        (dict(begin=1, end=4, warmup_iters=3), dict(begin=5, end=20, warmup_iters=3)),
    ],
)
def test_epochs_are_converted(epochs, iterations):
    rates = []
    for build, kwargs in ((_converted, epochs), (PolyWarmupLR, iterations)):
        optimizer = _optimizer(1.0)
        scheduler = build(optimizer, **kwargs)
        assert scheduler.by_epoch is False
        rates.append([])
        for _ in range(22):
            rates[-1].append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            scheduler.step()
    assert rates[0] == rates[1] and rates[0][-1] < rates[0][10]


def test_epochs_that_cannot_be_converted():
    with pytest.raises(ValueError, match='not both'):
        _converted(_optimizer(1.0), end=4, warmup_epochs=1, warmup_iters=3)
    with pytest.raises(ValueError, match='needs by_epoch=True'):
        PolyWarmupLR.build_iter_from_epoch(
            _optimizer(1.0), epoch_length=5, end=4, by_epoch=False
        )


def test_in_a_training_of_epochs(tmp_path):
    """`end` is that of the training, where the config leaves it out."""
    net, _ = iteration_run.model()
    rates = []
    runner = iteration_run.train(
        net,
        tmp_path,
        iteration_run.BY_EPOCH,  # 2 epochs of 3 batches
        param_scheduler=dict(
            type='PolyWarmupLR',
            warmup_epochs=1,
            warmup_ratio=0.1,
            by_epoch=True,
            convert_to_iter_based=True,
        ),
        custom_hooks=[RecordRates(rates)],
    )
    factor = runner.param_schedulers[0].factor
    assert rates == pytest.approx([1e-4 * factor(step) for step in range(6)])
    assert (factor(3), factor(6)) == (0.5**0.9, 0)


class RecordRates(Hook):
    def __init__(self, rates):
        self.rates = rates

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])
