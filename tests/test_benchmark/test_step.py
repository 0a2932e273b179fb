from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from mmseg_more import localization as L
from mmseg_more.benchmark.memory import MemoryMeter
from mmseg_more.benchmark.stages import StageMeter, replaced
from mmseg_more.benchmark.step import StepBenchmark
from mmseg_more.benchmark.step_stages import is_network, overhead, staged
from mmseg_more.benchmark.variants import VARIANTS
from mmseg_more.benchmark.workload import adapt_config, check_dtype
from mmseg_more.localization import bilateral, refinement

CPU = torch.device('cpu')
LOSSES = ('cls', 'cls_aux', 'mct', 'ptc', 'cre', 'ure', 'seg', 'energy')


@pytest.fixture
def benchmark(tiny_config):
    return StepBenchmark(tiny_config, 2, CPU)


def gradients(benchmark, context=nullcontext()):
    """Gradients of a step, as the optimizer sees them."""
    found, parameters = {}, dict(benchmark.model.named_parameters())
    benchmark.optim_wrapper.optimizer.register_step_pre_hook(
        lambda *args: found.update((k, p.grad.clone()) for k, p in parameters.items())
    )
    torch.manual_seed(0)  # URE draws
    with context:
        benchmark.step()
    return found


def test_stages_leave_the_step_as_it_is(tiny_config):
    expected = gradients(StepBenchmark(tiny_config, 2, CPU))
    benchmark = StepBenchmark(tiny_config, 2, CPU)
    children = dict(benchmark.model.named_children())
    with MemoryMeter(CPU) as memory:
        meter = StageMeter(CPU, memory)
        found = gradients(
            benchmark, staged(benchmark.model, benchmark.optim_wrapper, meter)
        )
    assert set(found) == set(expected)
    for name in expected:
        # the sums of gradients are taken in another order
        torch.testing.assert_close(
            found[name], expected[name], rtol=1e-4, atol=1e-6, msg=name
        )
    assert dict(benchmark.model.named_children()) == children
    assert 'training_cams' not in vars(benchmark.model)
    assert 'backward' not in vars(benchmark.optim_wrapper)
    assert set(meter.results()) == {
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
    }


def test_run(benchmark):
    assert benchmark.model.iteration == 1201  # one past the last `begin`
    found = benchmark.run(iters=2)
    assert found['ratio'] == found['step_s'] / found['gemm_bound_s'] > 0
    assert found['gemm_bound_s'] == pytest.approx(
        found['flops']['total'] / found['gemm_flops_per_s']
    )
    assert 0 < found['overhead'] < 1
    assert sum(s['share'] for s in found['stages'].values()) == pytest.approx(1)
    assert found['peak_mb'] > 0 and found['base_mb'] > 0
    assert len(found['step_s_all']) == 2 and len(found['gemm_flops_per_s_all']) == 3


def test_losses_that_do_not_count_have_no_stage(tiny_config):
    stages = StepBenchmark(tiny_config, 2, CPU, iteration=0).measure_stages()
    assert not {'ptc', 'seg', 'energy', 'par', 'cam_maps'} & set(stages)
    assert {'cls', 'forward', 'backward', 'optimizer'} <= set(stages)


def test_without_graph(tiny_config):
    tiny_config.model.graph = None
    stages = StepBenchmark(tiny_config, 2, CPU).measure_stages()
    assert 'graph' not in stages and 'heads' in stages


def test_bfloat16(tiny_config):
    benchmark = StepBenchmark(tiny_config, 2, CPU, 'bfloat16')
    assert benchmark.gemm_meter()._products[0][0].dtype == torch.bfloat16
    assert benchmark.measure_stages()['backward']['time_s'] > 0


def test_overhead_is_all_but_the_network():
    stages = {
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
    assert overhead(stages) == pytest.approx(0.3)
    assert not any(map(is_network, ('cam_maps', 'backward_losses', 'energy', 'data')))


@pytest.mark.parametrize('name', [name for name in VARIANTS if name != 'par_classes'])
def test_variants_compute_the_same(tiny_config, name):
    expected = gradients(StepBenchmark(tiny_config, 2, CPU))
    benchmark = StepBenchmark(tiny_config, 2, CPU)
    found = gradients(benchmark, VARIANTS[name].absent(benchmark.model))
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-5, msg=key)


@contextmanager
def calls_of(owner, name):
    """Arguments of the calls that are made within the block."""
    seen, original = [], getattr(owner, name)

    def watched(*args, **kwargs):
        seen.append(args)
        return original(*args, **kwargs)

    with replaced(owner, name, watched):
        yield seen


def test_variants_take_the_optimisation_away(benchmark):
    model = benchmark.model

    def count(variant, owner, name):
        with calls_of(owner, name) as present:
            benchmark.step()
        with calls_of(owner, name) as absent:
            with VARIANTS[variant].absent(model):
                benchmark.step()
        return present, absent

    def images(calls, side):
        return sum(len(args[0]) for args in calls if args[0].shape[-1] == side)

    present, absent = count('scale_1', model.backbone, 'forward')
    assert images(present, 64) == 4  # the batch and its flips
    assert images(absent, 64) == 6
    assert images(present, 32) == images(absent, 32) == 4
    model.chunk_size = 1
    present, absent = count('chunks', model.backbone, 'forward')
    assert len(present) == 1 + 2 + 4 + 4 and len(absent) == 4
    present, absent = count('present_classes', L, 'normalize_maps')
    assert absent[0][0].shape[1] == 6 > present[0][0].shape[1]
    present, absent = count('energy', bilateral, 'bilateral_filter_batch')
    assert len(present) + len(absent) == 1
    present, absent = count('par_affinity', refinement, 'pixel_affinity')
    assert len(present) == 1 and len(absent) == 2
    present, absent = count('par_classes', refinement, 'propagate')
    assert absent[0][0].shape[1] == 2 * 7 > present[0][0].shape[1]  # K + 1, two runs


def test_cam_passes_record_a_graph(benchmark):
    recorded = []
    benchmark.model.backbone.ln1.register_forward_hook(
        lambda module, args, out: recorded.append(out.requires_grad)
    )
    benchmark.step()
    assert recorded[0] and not any(recorded[1:])
    count = len(recorded)
    with VARIANTS['cam_no_grad'].absent(benchmark.model):
        benchmark.step()
    assert all(recorded[count:])


@pytest.mark.parametrize('name', ['attention', 'straightforward'])
def test_attention_keeps_its_matrices(benchmark, name):
    softmax = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func in (torch.Tensor.softmax, F.scaled_dot_product_attention):
                softmax.append((func, result.shape))
            return result

    with Watch(), VARIANTS[name].absent(benchmark.model):
        benchmark.step()
    assert not any(func is F.scaled_dot_product_attention for func, _ in softmax)
    tokens = 64 + 10
    assert sum(shape == (2, 4, tokens, tokens) for _, shape in softmax) == 2 * 3


def test_compare(benchmark):
    found = benchmark.compare(['par_affinity', 'chunks'], iters=1)
    assert list(found) == ['par_affinity', 'chunks']
    for row in found.values():
        assert {'step_s', 'stages_s', 'peak_mb'} == set(row['with']) == set(row['without'])
        assert row['time'] == row['with']['step_s'] / row['without']['step_s']
        assert row['with']['stages_s'] > 0
    assert 'refined_labels' not in vars(benchmark.model.pseudo_labeler)


def test_adapted_config_is_a_copy(tiny_config):
    other = adapt_config(
        tiny_config, size=32, num_classes=4, arch='deit-tiny', num_scales=1
    )
    assert tiny_config.model.num_classes == tiny_config.model.backbone.num_classes == 6
    assert tiny_config.model.data_preprocessor.size == (64, 64)
    model = StepBenchmark(other, 1, CPU).model
    assert model.num_classes == 4 and model.train_scales == (1.0,)
    assert model.backbone.embed_dims == model.graph.embed_dims == 192


def test_dtypes_that_a_cpu_does_not_have():
    for dtype in ('tf32', 'float16'):
        with pytest.raises(ValueError, match='needs a GPU'):
            check_dtype(dtype, CPU)
    check_dtype('bfloat16', CPU)
