"""Rates that fall from layer to layer, in MoRe and in a stock segmentor."""

import pytest
from mmengine.optim import build_optim_wrapper

import stock_model
from tiny_model import tiny_model

RATE, DECAY = 1e-2, 0.5
OURS = 'BackboneDecayOptimWrapperConstructor'
MMPRETRAIN = 'mmpretrain.LearningRateDecayOptimWrapperConstructor'


def rates(model, constructor):
    """Learning rate of each parameter by its name."""
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor=constructor,
            optimizer=dict(type='AdamW', lr=RATE, weight_decay=0.01),
            paramwise_cfg=dict(layer_decay_rate=DECAY),
        ),
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: group['lr']
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }


@pytest.mark.parametrize(
    'build, constructor',
    [(tiny_model, MMPRETRAIN), (tiny_model, OURS), (stock_model.build, OURS)],
    ids=['MoRe, mmpretrain', 'MoRe', 'EncoderDecoder'],
)
def test_rates_by_depth(build, constructor):
    """Of four blocks: six depths, the last of which is trained at the full rate."""
    model = build()
    found = rates(model, constructor)
    assert set(found) == dict(model.named_parameters()).keys()
    for name, rate in found.items():
        part = name.split('.')
        depth = 5
        if name.startswith('backbone.layers.'):
            depth = int(part[2]) + 1
        elif part[0] == 'backbone' and part[1] != 'ln1':
            depth = 0
            assert part[1] in ('cls_token', 'pos_embed', 'patch_embed')
        assert rate == pytest.approx(RATE * DECAY ** (5 - depth)), name


def test_a_backbone_without_depths():
    model = stock_model.build(
        backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
        decode_head=dict(in_channels=32),
    )
    with pytest.raises(NotImplementedError, match='get_layer_depth'):
        rates(model, OURS)
