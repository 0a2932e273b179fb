from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from benchmarks.common.optimisations import CAM_ARGUMENTS, OPTIMISATIONS, STEP_OPTIONS
from benchmarks.common.workload import adapt_config, check_dtype
from benchmarks.step import StepBenchmark

CPU = torch.device('cpu')


@pytest.fixture
def step_benchmark(tiny_config):
    return StepBenchmark(tiny_config, 2, CPU)


def images_of(step_benchmark):
    return torch.stack(step_benchmark.data['inputs'])


def gradients(step_benchmark, context=None):
    """Gradients of a step, as the optimizer sees them."""
    found, parameters = {}, dict(step_benchmark.model.named_parameters())
    step_benchmark.optim_wrapper.optimizer.register_step_pre_hook(
        lambda *args: found.update((k, p.grad.clone()) for k, p in parameters.items())
    )
    torch.manual_seed(0)  # URE draws
    with context or nullcontext():
        step_benchmark.step()
    return found


@pytest.mark.slow
def test_run(step_benchmark):
    assert step_benchmark.model.iteration == 601  # one past the last `begin`
    found = step_benchmark.run(iters=2)
    assert found['ratio'] == found['step_s'] / found['gemm_bound_s'] > 0
    assert found['gemm_bound_s'] == pytest.approx(
        found['flops']['total'] / found['gemm_flops_per_s']
    )
    assert 0 < found['overhead'] < 1
    assert sum(s['share'] for s in found['stages'].values()) == pytest.approx(1)
    assert found['peak_mb'] > 0 and found['base_mb'] > 0
    assert len(found['step_s_all']) == 2 and len(found['gemm_flops_per_s_all']) == 3


def test_bfloat16(tiny_config):
    seen = set()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.mm:
                seen.add(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with Watch():
        StepBenchmark(tiny_config, 2, CPU, 'bfloat16').gemm_meter()
    assert seen == {torch.bfloat16}


@pytest.mark.parametrize('name', STEP_OPTIONS)
def test_options_compute_the_same(tiny_config, name):
    expected = gradients(StepBenchmark(tiny_config, 2, CPU))
    step_benchmark = StepBenchmark(tiny_config, 2, CPU)
    absent = STEP_OPTIONS[name].absent(step_benchmark.model, images_of(step_benchmark))
    found = gradients(step_benchmark, absent)
    for key in expected:
        # sums in another order
        torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-5, msg=key)


@contextmanager
def backbone_inputs(step_benchmark):
    """Sizes ``(B, 3, H, W)`` of what the backbone gets within the block."""
    shapes = []
    with step_benchmark.model.backbone.register_forward_pre_hook(
        lambda module, args: shapes.append(tuple(args[0].shape))
    ):
        yield shapes


def test_chunks(step_benchmark):
    model = step_benchmark.model
    model.localizer.chunk_size = 1
    with backbone_inputs(step_benchmark) as chunks:
        step_benchmark.step()
    with backbone_inputs(step_benchmark) as whole:
        with STEP_OPTIONS['chunks'].absent(model, images_of(step_benchmark)):
            step_benchmark.step()
    assert len(chunks) == 1 + 2 + 4 + 4 and len(whole) == 4
    assert model.localizer.chunk_size == 1


def test_energy_takes_the_other_backend(step_benchmark):
    pytest.importorskip('pydensecrf')
    loss = step_benchmark.model.loss_schedule.losses['energy']
    # 2 x 32 x 32 pixels are few: pydensecrf is chosen
    with STEP_OPTIONS['energy'].absent(step_benchmark.model, images_of(step_benchmark)):
        assert loss.backend == 'lattice'
    assert loss.backend == 'auto'
    loss.backend = 'lattice'
    with STEP_OPTIONS['energy'].absent(step_benchmark.model, images_of(step_benchmark)):
        assert loss.backend == 'pydensecrf'


def test_without_frozen_weights(tiny_config):
    tiny_config.model.backbone.frozen_stages = 2
    benchmark = StepBenchmark(tiny_config, 2, CPU)
    parameters = list(benchmark.model.backbone.parameters())
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    assert frozen
    seen = set()
    with STEP_OPTIONS['frozen'].absent(benchmark.model, images_of(benchmark)):
        for index, parameter in enumerate(frozen):
            parameter.register_hook(lambda _, index=index: seen.add(index))
        benchmark.step()
    assert seen == set(range(len(frozen)))
    assert not any(parameter.requires_grad for parameter in frozen)
    assert all(parameter.grad is None for parameter in frozen)
    benchmark.step()


def test_energy_needs_an_energy(tiny_config):
    tiny_config.model.losses.energy.loss_weight = 0
    step_benchmark = StepBenchmark(tiny_config, 1, CPU)
    with pytest.raises(ValueError, match='energy is no loss'):
        step_benchmark.compare(['energy'], iters=1)


@pytest.mark.parametrize('name', ['attention', 'straightforward'])
def test_attention_keeps_its_matrices(step_benchmark, name):
    softmax = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func in (torch.Tensor.softmax, F.scaled_dot_product_attention):
                softmax.append((func, result.shape))
            return result

    with (
        Watch(),
        STEP_OPTIONS[name].absent(step_benchmark.model, images_of(step_benchmark)),
    ):
        step_benchmark.step()
    assert not any(func is F.scaled_dot_product_attention for func, _ in softmax)
    tokens = 64 + 10
    assert sum(shape == (2, 4, tokens, tokens) for _, shape in softmax) == 2 * 3


def test_attention_in_blocks(tiny_config, monkeypatch):
    """Without it, PyTorch's runs in the passes that make CAMs as well."""
    step_benchmark = StepBenchmark(tiny_config, 2, CPU, 'bfloat16')
    option = STEP_OPTIONS['attention_blocks']
    pytorchs, calls = F.scaled_dot_product_attention, []

    def count(query, *args):
        calls.append(query.requires_grad)
        return pytorchs(query, *args)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', count)
    step_benchmark.step()
    assert calls == [True, True, True]  # three blocks
    with option.absent(step_benchmark.model, images_of(step_benchmark)):
        step_benchmark.step()
    assert calls.count(True) == 6 and calls.count(False) >= 3 * 3


def test_arguments_of_the_cams(step_benchmark):
    """With all arguments, and without one."""

    class Calls:
        """Stands before the localizer and takes down what it is asked for."""

        def __init__(self, localizer):
            self.localizer, self.arguments, self.cams = localizer, [], []

        def __getattr__(self, name):
            return getattr(self.localizer, name)

        def training_cams(self, inputs, **arguments):
            self.arguments.append(arguments)
            self.cams.append(self.localizer.training_cams(inputs, **arguments))

    for name, argument in CAM_ARGUMENTS.items():
        step_benchmark.model.localizer = calls = Calls(step_benchmark.model.localizer)
        found = step_benchmark.compare([name], iters=1)[name]
        step_benchmark.model.localizer = calls.localizer
        given = [{k for k, v in a.items() if v is not None} for a in calls.arguments]
        assert given == 2 * [{'tokens', 'classes'}] + 2 * [
            {'tokens', 'classes'} - {argument.name}
        ]
        assert set(found['with']) == {'stages_s', 'peak_mb'}
        present, absent = calls.cams[0], calls.cams[-1]
        if name == 'present_classes':
            assert absent.cam.shape[1] == 6 > present.cam.shape[1]
        else:
            torch.testing.assert_close(absent.cam, present.cam)


@pytest.mark.slow
def test_compare(step_benchmark):
    found = step_benchmark.compare(['energy', 'scale_1'], iters=1)
    assert list(found) == ['energy', 'scale_1']
    row = found['energy']
    assert {'step_s', 'stages_s', 'peak_mb'} == set(row['with']) == set(row['without'])
    assert row['time'] == row['with']['step_s'] / row['without']['step_s']
    assert row['with']['stages_s'] > 0
    assert 'time' not in found['scale_1'] and found['scale_1']['stages'] > 0
    assert set(OPTIMISATIONS) == {*STEP_OPTIONS, *CAM_ARGUMENTS}


def test_adapted_config_is_a_copy(tiny_config):
    other = adapt_config(
        tiny_config, size=32, num_classes=4, arch='deit-tiny', num_scales=1
    )
    assert tiny_config.model.num_classes == 6
    assert tiny_config.model.data_preprocessor.size == (64, 64)
    model = StepBenchmark(other, 1, CPU).model
    assert model.num_classes == 4 and model.localizer.scales == (1.0,)
    assert model.backbone.embed_dims == model.graph.embed_dims == 192


def test_dtypes_that_a_cpu_does_not_have():
    for dtype in ('tf32', 'float16'):
        with pytest.raises(ValueError, match='needs a GPU'):
            check_dtype(dtype, CPU)
    check_dtype('bfloat16', CPU)
