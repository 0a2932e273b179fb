"""The hint at --amp on CPUs that are faster in bfloat16."""

import torch
from mmengine.optim import OptimWrapper

from mmseg_more.engine import amp_hint as module
from mmseg_more.engine.amp_hint import amp_hint, bfloat16_gain
from mmseg_more.engine.optim import CPUAmpOptimWrapper
from tiny_model import tiny_config, tiny_model


def _wrapper(kind, model):
    return kind(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))


def test_hint_only_where_it_pays(monkeypatch):
    model = tiny_model()
    plain = _wrapper(OptimWrapper, model)
    asked = []

    def gain(layer, num_tokens):
        asked.append((layer, num_tokens))
        return 3.21

    monkeypatch.setattr(module, 'bfloat16_gain', gain)
    hint = amp_hint(model, plain, (64, 48))
    assert '3.2 times as fast' in hint and '--amp' in hint
    # 3 classes, 4 registers, 8 x 6 patches
    assert asked == [(model.backbone.layers[0], 7 + 48)]
    assert amp_hint(model, _wrapper(CPUAmpOptimWrapper, model), (64, 64)) is None
    monkeypatch.setattr(module, 'bfloat16_gain', lambda *_: 1.2)
    assert amp_hint(model, plain, (64, 64)) is None


def test_measuring_draws_no_number_and_leaves_the_block_alone():
    cfg = tiny_config().backbone
    model = tiny_model(backbone=dict(cfg, drop_path_rate=0.5)).train()
    layer = model.backbone.layers[-1]
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    state = torch.get_rng_state()
    assert bfloat16_gain(layer, 20) > 0
    assert torch.equal(state, torch.get_rng_state()) and layer.training
    assert all(torch.equal(before[name], v) for name, v in layer.state_dict().items())
    assert all(p.grad is None for p in layer.parameters())


def test_backbone_without_positions(monkeypatch):
    model = tiny_model(backbone=dict(tiny_config().backbone, family='dinov3'))
    monkeypatch.setattr(module, 'bfloat16_gain', lambda *_: 2.0)
    assert amp_hint(model, _wrapper(OptimWrapper, model), (64, 48)) is not None


def test_no_hint_where_weights_are_shared_out(monkeypatch):
    """No process has a block as a whole."""
    model = tiny_model()
    monkeypatch.setattr(module, 'bfloat16_gain', lambda *_: 2.0)
    assert amp_hint(model, _wrapper(OptimWrapper, model), (64, 64)) is not None
    monkeypatch.setattr(module, 'DTensor', type(model.backbone.cls_token))
    assert amp_hint(model, _wrapper(OptimWrapper, model), (64, 64)) is None
