"""Graphs of passes, without a GPU: what is captured, and when."""

import copy

import torch

from mmseg_more.models.segmentors.graphed_backbone import GraphedBackbone
from tiny_model import batch, tiny_model


class _Replay:
    """In place of a captured pass: runs it again."""

    def __init__(self, backbone, images):
        self.backbone, self.images = backbone, torch.empty_like(images)
        self.graph, self.tokens = self, None

    def replay(self):
        self.tokens = self.backbone(self.images)


class _Captures(GraphedBackbone):
    """Lists what it captures."""

    def __init__(self, backbone, max_graphs=16):
        super().__init__(backbone, max_graphs)
        self.captures = []

    def _capture(self, images):
        self.captures.append(tuple(images.shape))
        return _Replay(self.backbone, images)


@torch.no_grad()
def test_one_graph_for_each_shape_and_setting():
    backbone = tiny_model().backbone
    graphs, images = _Captures(backbone, max_graphs=3), torch.randn(2, 3, 64, 64)
    for inputs in (images, images + 1, images[:1], images):
        expected = backbone(inputs)
        assert torch.equal(graphs(inputs).patches, expected.patches)
    assert graphs.captures == [(2, 3, 64, 64), (1, 3, 64, 64)]
    backbone.eval()
    graphs(images)
    assert len(graphs.captures) == 3
    graphs(images[..., :32])  # no more of them: as ever
    assert len(graphs.captures) == 3


@torch.no_grad()
def test_weights_that_were_moved_are_captured_anew():
    backbone = tiny_model().backbone
    graphs, images = _Captures(backbone), torch.randn(1, 3, 64, 64)
    graphs(images)
    backbone.cls_token.mul_(2)  # in place, as an optimizer does
    graphs(images)
    assert len(graphs.captures) == 1
    backbone.cls_token.data = backbone.cls_token.data.clone()
    graphs(images)
    assert len(graphs.captures) == 2


def test_a_copy_has_the_copied_backbone_and_no_graph():
    model = tiny_model(localization=dict(scales=(1.0,), cuda_graphs=True))
    model.localizer._graphs._graphs['of this one'] = object()
    copied = copy.deepcopy(model)
    assert copied.localizer._graphs.backbone is copied.backbone
    assert not copied.localizer._graphs._graphs


@torch.no_grad()
def test_on_a_cpu_the_option_changes_nothing():
    images = batch([1, 0, 1])[0]
    plain = tiny_model(localization=dict(scales=(1.0, 0.5)))
    graphed = tiny_model(localization=dict(scales=(1.0, 0.5), cuda_graphs=True))
    cams = [model.localizer.training_cams(images).cam for model in (plain, graphed)]
    assert torch.equal(*cams)
