import pytest
import torch
from mmengine.registry import init_default_scope

from benchmarks.common import flops
from benchmarks.maps import MapsBenchmark
from benchmarks.step import StepBenchmark
from golden import ROOT
from mmseg_more.engine import launch
from mmseg_more.models.graph import GraphCategoryRepresentation
from mmseg_more.models.structures import MASK_SCALES

from mmseg.registry import MODELS

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def vit_b():
    """The VOC model without storage: only its shapes count."""
    cfg = launch.load_config(str(ROOT / 'configs/more/more_vit-b_voc.py'))
    init_default_scope('mmseg')
    with torch.device('meta'):
        return MODELS.build(cfg.model)


def test_published_size(vit_b):
    # ViT-B/16, 448 x 448, batch 2: 2.83 TFLOP for the CAM passes with scale 1 run for
    # image and flip, 0.32 forward and 0.64 backward without the heads
    size = (448, 448)
    backbone = flops.backbone_flops(vit_b.backbone, 2, size)
    assert backbone == pytest.approx(0.32e12, rel=0.02)
    found = flops.training_step_flops(vit_b, 2, size, iteration=2001)
    assert sum(found.cam.values()) + backbone == pytest.approx(2.83e12, rel=0.01)
    assert backbone < found.forward < 1.1 * backbone  # heads and GCR
    assert found.backward == pytest.approx(2 * found.forward, rel=0.01)
    assert found.total == found.forward + found.backward + sum(found.cam.values())
    # 5.0 TFLOP for one image at the seven scales, the maps alone
    shared = flops.shared_passes_flops(vit_b, 1, size, MASK_SCALES)
    assert shared == pytest.approx(5.0e12, rel=0.02)


def test_less_is_counted_before_the_losses_begin(vit_b):
    early = flops.training_step_flops(vit_b, 1, (448, 448), iteration=2000)
    late = flops.training_step_flops(vit_b, 1, (448, 448), iteration=2001)
    head = flops.decode_head_flops(vit_b.decode_head, 1, (28, 28))
    assert late.forward - early.forward == head
    assert early.cam == late.cam


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'model.graph': None},
        {'model.graph.tail': 'patches'},
        {'model.backbone.frozen_stages': 0},
        {'model.backbone.frozen_stages': 3},
        {'model.backbone.lora': dict(rank=2)},
    ],
)
def test_step_agrees_with_the_counter(tiny_config, options):
    tiny_config.merge_from_dict(options)
    benchmark = StepBenchmark(tiny_config, 2, CPU)
    found = benchmark.check_flops()
    # the products of URE's few tokens are not counted
    assert found['ratio'] == pytest.approx(1, rel=0.005)
    assert found['losses'] < 0.05 * found['network']


@pytest.mark.parametrize('seg_scales', [(), (1.0, 1.25)])
def test_maps_agree_with_the_counter(tiny_config, seg_scales):
    benchmark = MapsBenchmark(
        tiny_config, 2, CPU, scales=(0.5, 1.0, 1.5), seg_scales=seg_scales
    )
    counted = flops.counted_flops(benchmark.shared)['total']
    # the image logits are not counted
    assert benchmark.flops == pytest.approx(counted, rel=1e-4)


@pytest.mark.parametrize('tail', ['all', 'patches'])
def test_graph_agrees_with_the_counter(tail):
    graph = GraphCategoryRepresentation(16, tail=tail)
    counted = flops.counted_flops(graph, torch.rand(2, 6, 16), torch.rand(2, 9, 16))
    assert flops.graph_flops(graph, 2, 6, 9) == counted['total']
