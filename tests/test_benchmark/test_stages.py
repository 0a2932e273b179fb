import time

import pytest
import torch
from torch import nn

from mmseg_more.benchmark.memory import MemoryMeter
from mmseg_more.benchmark.stages import GraphCuts, StageMeter, StageModule, replaced

CPU = torch.device('cpu')


@pytest.fixture
def meter():
    with MemoryMeter(CPU) as memory:
        yield StageMeter(CPU, memory)


def test_times_are_those_of_the_innermost_stage(meter):
    start = time.perf_counter()
    with meter.stage('outer'):
        with meter.stage('inner'):
            assert meter.is_open('outer') and meter.is_open('inner')
            time.sleep(0.03)
        with meter.stage('inner'):
            time.sleep(0.03)
    whole = time.perf_counter() - start
    found = meter.results()
    assert found['inner'].time_s >= 0.06
    assert found['inner'].time_s + found['outer'].time_s <= whole
    assert found['outer'].time_s <= whole - 0.06
    assert not meter.is_open('outer')


def test_peak_is_that_of_the_stage(meter):
    size = 200 * 2**20
    with meter.stage('large'):
        large = torch.ones(size, dtype=torch.uint8)
    del large
    with meter.stage('small'):
        torch.ones(10)
    found = meter.results()
    assert found['large'].peak_mb - found['small'].peak_mb > 150


def test_stage_ends_after_an_error(meter):
    with pytest.raises(RuntimeError):
        meter.wrap('broken', lambda: torch.ones(2) @ torch.ones(3))()
    assert not meter.is_open('broken')


def test_replaced_restores_what_the_object_itself_had():
    class Thing:
        name = 'class'

    thing = Thing()
    with replaced(thing, 'name', 'outer'):
        with replaced(thing, 'name', 'inner'):
            assert thing.name == 'inner'
        assert thing.name == 'outer'
    assert thing.name == 'class' and not vars(thing)
    thing.name = None
    with replaced(thing, 'name', 'other'):
        assert thing.name == 'other'
    assert vars(thing) == dict(name=None)


def test_stage_module_looks_like_the_module(meter):
    linear = nn.Linear(3, 2)
    stand_in = StageModule(linear, meter.wrap('linear', linear))
    inputs = torch.rand(1, 3)
    torch.testing.assert_close(stand_in(inputs), linear(inputs))
    assert stand_in.in_features == 3 and stand_in.weight is linear.weight
    with pytest.raises(AttributeError, match='no_such'):
        stand_in.no_such


def test_cuts_give_the_same_gradients(meter):
    torch.manual_seed(0)
    trunk, left, right = nn.Linear(3, 3), nn.Linear(3, 2), nn.Linear(3, 2)
    inputs = torch.rand(4, 3)

    def loss(cut):
        features = cut('trunk', trunk(inputs))
        return (
            cut('left', left(features)).square().sum()
            + cut('right', right(features)).exp().mean()
            + features.sum()
        )

    parameters = [p for m in (trunk, left, right) for p in m.parameters()]
    expected = torch.autograd.grad(loss(lambda name, x: x), parameters)
    cuts = GraphCuts()
    loss(cuts.cut).backward()
    assert trunk.weight.grad is None  # the graph ends before it
    cuts.backward(meter)
    for parameter, gradient in zip(parameters, expected):
        torch.testing.assert_close(parameter.grad, gradient)
    assert set(meter.results()) == {'trunk', 'left', 'right'}
    with torch.no_grad():
        outputs = trunk(inputs)
        assert cuts.cut('trunk', outputs) is outputs
