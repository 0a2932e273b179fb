from types import SimpleNamespace

import pytest
import torch

from benchmarks.common import stages
from benchmarks.common.memory import MemoryMeter, tree_bytes
from benchmarks.common.stages import Span, innermost, run_staged
from benchmarks.step import StepBenchmark, overhead

CPU = torch.device('cpu')
LOSSES = ('cls', 'cls_aux', 'mct', 'ptc', 'cre', 'ure', 'seg', 'energy')


def test_time_belongs_to_the_innermost_span():
    spans = [
        Span('outer', 0.0, 10.0),
        Span('inner', 2.0, 5.0),
        Span('innermost', 3.0, 4.0),
        Span('twin', 6.0, 8.0),
        Span('short twin', 6.0, 7.0),
        Span('late', 12.0, 13.0),
    ]
    expected = [
        Span('outer', 0.0, 2.0),
        Span('inner', 2.0, 3.0),
        Span('innermost', 3.0, 4.0),
        Span('inner', 4.0, 5.0),
        Span('outer', 5.0, 6.0),
        Span('short twin', 6.0, 7.0),
        Span('twin', 7.0, 8.0),
        Span('outer', 8.0, 10.0),
        Span('late', 12.0, 13.0),
    ]
    assert innermost(spans) == innermost(reversed(spans)) == expected


def test_of_overlapping_spans_the_later_one_counts():
    pieces = innermost([Span('first', 0.0, 3.0), Span('second', 2.0, 5.0)])
    assert pieces == [
        Span('first', 0.0, 2.0),
        Span('second', 2.0, 3.0),
        Span('second', 3.0, 5.0),
    ]


def test_kernels_count_where_they_are_launched():
    def event(start, *durations, annotation=False):
        return SimpleNamespace(
            time_range=SimpleNamespace(start=start),
            kernels=[SimpleNamespace(duration=duration) for duration in durations],
            is_user_annotation=annotation,
        )

    pieces = [Span('a', 1.0, 2.0), Span('b', 2.0, 3.0)]
    events = [
        event(0.2e6, 7e6),  # before anything began
        event(0.6e6, 3e6),  # it runs on while b has begun
        event(1.6e6, 1e6, 1e6),
        event(1.7e6, 5e6, annotation=True),  # spans kernels that are counted by themselves
        event(1.8e6),
    ]
    assert stages._kernel_times(pieces, events, offset=0.5) == [3.0, 2.0]


def test_peak_is_that_of_the_span():
    with MemoryMeter(CPU, interval=10) as memory:
        pass
    memory.samples = [(0.0, 2**20), (1.0, 5 * 2**20), (2.0, 3 * 2**20)]
    assert memory.peak_mb == 5
    assert memory.peak_between(0.5, 1.5) == 5
    assert memory.peak_between(1.5, 2.5) == 3
    assert memory.peak_between(1.2, 1.3) == 5  # no sample: as it was before


@pytest.mark.parametrize('children', [False, True])
def test_memory_has_a_peak(children):
    with MemoryMeter(CPU, interval=0.01, children=children) as memory:
        before, count = tree_bytes(), len(memory.samples)
        block = torch.ones(2**27, dtype=torch.uint8)
        while len(memory.samples) < count + 3:
            pass
        del block
    assert memory.peak_mb > before / 2**20 + 64
    assert memory.peak_mb == max(value for _, value in memory.samples) / 2**20


def staged(benchmark):
    return run_staged(benchmark.model, benchmark.optim_wrapper, benchmark.data, CPU)


def gradients(benchmark, step):
    """Gradients of a step, as the optimizer sees them."""
    found, parameters = {}, dict(benchmark.model.named_parameters())
    benchmark.optim_wrapper.optimizer.register_step_pre_hook(
        lambda *args: found.update((k, p.grad.clone()) for k, p in parameters.items())
    )
    torch.manual_seed(0)  # URE draws
    step()
    return found


@pytest.mark.slow
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_staged_step_is_the_step(tiny_config, dtype):
    benchmark = StepBenchmark(tiny_config, 2, CPU, dtype)
    expected = gradients(benchmark, benchmark.step)
    benchmark = StepBenchmark(tiny_config, 2, CPU, dtype)
    model, stages_of_step = benchmark.model, {}

    def step():
        stages_of_step.update(
            run_staged(model, benchmark.optim_wrapper, benchmark.data, CPU)
        )

    found = gradients(benchmark, step)
    assert set(found) == set(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], msg=name)
    assert list(stages_of_step)[-1] == 'other'
    assert set(stages_of_step) == {
        'data',
        'forward',
        'graph',
        'heads',
        'cam_x1',
        'cam_x0.5',
        'cam_x0.75',
        'cam_maps',
        'labels',
        'par',
        *LOSSES,
        'backward_losses',
        'backward_graph',
        'backward_heads',
        'backward',
        'optimizer',
        'other',
    }
    for figures in stages_of_step.values():
        assert figures.time_s > 0 and figures.peak_mb > 0
    for module in benchmark.model.modules():  # nothing is left behind
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert not module._backward_hooks and not module._backward_pre_hooks


def test_stages_come_one_after_the_other(tiny_config):
    benchmark = StepBenchmark(tiny_config, 2, CPU)
    names = list(run_staged(benchmark.model, benchmark.optim_wrapper, benchmark.data, CPU))
    order = (
        'data',
        'forward',
        'heads',
        'cam_x1',
        'par',
        'seg',
        'backward_losses',
        'backward_graph',
        'backward_heads',
        'backward',
        'optimizer',
    )
    assert [name for name in names if name in order] == list(order)


def test_passes_of_the_cams_are_not_those_of_the_network(tiny_config):
    benchmark = StepBenchmark(tiny_config, 2, CPU)
    model, recorder = benchmark.model, stages._Recorder()
    inputs = model.data_preprocessor(benchmark.data, True)['inputs']
    with stages._module_hooks(model, recorder):
        model.localizer.training_cams(inputs)
        assert recorder.spans == []
        model.extract_feat(inputs)
    assert [span.name for span in recorder.spans] == ['forward']


def test_losses_that_do_not_count_have_no_stage(tiny_config):
    found = StepBenchmark(tiny_config, 2, CPU, iteration=0).measure_stages()
    assert not {'ptc', 'seg', 'energy', 'par', 'cam_maps'} & set(found)
    assert {'cls', 'forward', 'backward', 'optimizer'} <= set(found)


def test_without_graph(tiny_config):
    tiny_config.model.graph = None
    found = StepBenchmark(tiny_config, 2, CPU).measure_stages()
    assert 'graph' not in found and 'heads' in found


def test_other_ranges_are_no_stages():
    assert stages._stages_of_range('more/else') == []
    assert stages._stages_of_range('cams') == []
    assert stages._stages_of_range('more/cams') == ['cam_maps']
    assert stages._stages_of_range('more/cam_x0.5') == ['cam_x0.5']


def test_overhead_is_all_but_the_network():
    shares = {
        name: dict(share=0.1)
        for name in (
            'forward',
            'graph',
            'heads',
            'cam_x1',
            'cam_x0.5',
            'backward',
            'backward_heads',
            'par',
            'optimizer',
            'other',
        )
    }
    assert overhead(shares) == pytest.approx(0.3)
    network = ('cam_maps', 'backward_losses', 'energy', 'data', 'idle')
    assert not any(map(stages.is_network, network))


def test_clocks_are_compared_where_nothing_came_between():
    """The profiler's clock began 100 s before; two of three readings were interrupted."""
    ranges = [(1e6, 9e6), (20e6, 20.001e6), (30e6, 35e6)]
    events = [
        SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end))
        for name, (start, end) in zip(
            (stages._CLOCK, 'aten::add', *[stages._CLOCK] * 2),
            (ranges[0], (10e6, 10e6), *ranges[1:]),
        )
    ]
    clocks = [108.9, 120.0, 134.9]
    assert stages._clock_offset(clocks, events) == pytest.approx(100)
