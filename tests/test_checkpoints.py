"""Foreign state dicts of any size, and what becomes of each of their keys."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golden import Golden
from mmseg_more.checkpoints import convert_official, official_conversion
from strategies import few_examples
from tiny_model import tiny_config

from mmseg.registry import MODELS

# What the official code calls the parts of a block, and of the rest; of its own spelling.
BLOCK = {
    'ln1': 'norm1',
    'ln2': 'norm2',
    'attn.qkv': 'attn.qkv',
    'attn.proj': 'attn.proj',
    'ffn.layers.0.0': 'mlp.fc1',
    'ffn.layers.1': 'mlp.fc2',
}
REST = {
    'backbone.cls_token': 'encoder.cls_token',
    'backbone.pos_embed': 'encoder.pos_embed',
    'backbone.patch_embed.projection': 'encoder.patch_embed.proj',
    'backbone.ln1': 'encoder.norm',
    'decode_head.conv1.conv': 'decoder.conv6',
    'decode_head.conv2.conv': 'decoder.conv7',
    'decode_head.conv_seg': 'decoder.conv8',
    'classifier': 'classifier',
    'aux_classifier': 'aux_classifier',
    **{
        f'graph.{part}': f'graph_layer.{part}'
        for part in ('head_proj', 'tail_proj', 'linear1', 'linear2', 'norm')
    },
}


def official_name(name):
    if name in REST:
        return REST[name]
    part, end = name.rsplit('.', 1)
    if part in REST:
        return f'{REST[part]}.{end}'
    backbone, layers, number, part = part.split('.', 3)
    assert (backbone, layers) == ('backbone', 'layers')
    return f'encoder.blocks.{number}.{BLOCK[part]}.{end}'


def build(classes, depth, heads, head_dims, mid):
    config = tiny_config()
    dims = heads * head_dims
    config.num_classes = config.backbone.num_classes = classes
    config.backbone.arch = dict(
        embed_dims=dims, num_layers=depth, num_heads=heads, feedforward_channels=3 * dims
    )
    config.graph.embed_dims = dims
    config.decode_head.update(in_channels=dims, channels=mid, num_classes=classes + 1)
    return MODELS.build(config)


@st.composite
def official_checkpoints(draw):
    """A model with random weights, and the same as a file of the official code."""
    model = build(
        classes=draw(st.integers(1, 12)),
        depth=draw(st.integers(3, 13)),  # also layers of two digits
        heads=draw(st.integers(1, 2)),
        head_dims=draw(st.integers(1, 4)),
        mid=draw(st.integers(1, 4)),
    )
    state = {official_name(name): value for name, value in model.state_dict().items()}
    for name in draw(
        st.sets(st.sampled_from(('encoder.head.weight', 'graph_layer._fc1.0.bias')))
    ):
        state[name] = torch.zeros(2)
    names = draw(st.permutations(list(state)))
    prefix = draw(st.sampled_from(('', 'module.')))
    checkpoint = {prefix + name: state[name] for name in names}
    for wrapper in draw(
        st.lists(st.sampled_from(('model_state_dict', 'state_dict', 'model')), max_size=2)
    ):
        checkpoint = {'iter': 3, wrapper: checkpoint}
    return model, state, checkpoint


@few_examples
@given(official_checkpoints())
def test_official_round_trip(drawn):
    model, state, checkpoint = drawn
    converted = convert_official(checkpoint)
    ours = model.state_dict()
    assert set(converted) == set(ours)
    for name, value in ours.items():
        assert converted[name] is state[official_name(name)]
        assert converted[name].shape == value.shape
    model.load_state_dict(converted, strict=True)
    records = official_conversion(checkpoint).records
    assert {record.source for record in records} == set(state)
    dropped = {record.source for record in records if record.target is None}
    assert dropped == set(state) - set(map(official_name, ours))


def test_the_names_of_these_tests_are_those_of_the_official_file():
    official = Golden('inference').group('sd.')
    for record in official_conversion(official).records:
        if record.target is not None:
            assert official_name(record.target) == record.source


@given(st.sampled_from(('encoderr.norm.weight', 'head.weight', 'decoder.conv9.weight')))
def test_a_key_of_another_model(name):
    with pytest.raises(ValueError, match='not a state dict of the official MoRe code'):
        convert_official({name: torch.zeros(1)})
