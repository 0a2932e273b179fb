"""Families of pretrained ViTs in MoRe: training, switches, export."""

import pytest
import torch
from torch.testing import assert_close

from mmseg_more.deployment import LocalizationGraph, load_exported, serialize
from mmseg_more.models import MoReViT
from mmseg_more.models.backbones.axial_rope import axial_rotation, rotate
from mmseg_more.models.backbones.families import FAMILIES
from tiny_model import batch, tiny_config, tiny_model

GATED = dict(
    embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=24, ffn='swiglu'
)
VARIANTS = {
    'deit3': dict(family='deit3'),
    'dinov2': dict(family='dinov2'),
    'dinov2 with antialiasing and swiglu': dict(
        family='dinov2', interpolate='antialias', arch=GATED
    ),
    'dinov3': dict(family='dinov3'),
    'dinov3 with swiglu': dict(family='dinov3', arch=GATED),
    'clip': dict(family='clip'),
}


@pytest.fixture(params=VARIANTS, ids=lambda name: name.replace(' ', '-'))
def variant(request):
    return VARIANTS[request.param]


def randomize(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def vit(**kwargs):
    arch = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
    defaults = dict(arch=arch, img_size=32, patch_size=8, num_classes=3, num_registers=2)
    return randomize(MoReViT(**{**defaults, **kwargs}))


def more(variant):
    """The tiny MoRe with a backbone of another family."""
    backbone = tiny_config().backbone
    changed = dict(variant)
    if 'arch' in changed:
        changed['arch'] = dict(backbone.arch, ffn='swiglu')
    return tiny_model(backbone=dict(backbone, **changed))


def gradients(model, images):
    torch.manual_seed(0)
    tokens = model(images)
    sum(part.square().sum() for part in tokens[:3]).backward()
    return [*tokens[:3], *(parameter.grad for parameter in model.parameters())]


def test_sizes_of_the_published_files():
    assert FAMILIES['dinov2'].img_size // FAMILIES['dinov2'].patch_size == 37
    with torch.device('meta'):
        backbone = MoReViT(family='dinov2', num_registers=4, num_classes=20)
        assert backbone.pos_embed.shape == (1, 20 + 37 * 37, 768)
        assert MoReViT(family='deit3').pos_embed.shape == (1, 14 * 14, 768)
        assert MoReViT(family='dinov3').pos_embed is None
        giant = MoReViT(family='dinov2', arch='giant', num_registers=0, num_classes=1)
        count = sum(parameter.numel() for parameter in giant.parameters())
        assert count == 1_136_480_768 - 1536  # as published, without its mask token


def test_every_parameter_of_a_training_gets_a_gradient(variant):
    model = more(variant).train()
    losses = model(*batch([1, 0, 1], [0, 1, 0]), mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    without = [
        name for name, p in model.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert without == []


def test_checkpointing_keeps_the_gradients(variant):
    images = torch.randn(2, 3, 40, 24)
    found = gradients(vit(with_cp=True, **variant), images)
    assert_close(found, gradients(vit(**variant), images), rtol=0, atol=0)


def test_compiled_gradients(variant):
    torch._dynamo.reset()
    images = torch.randn(2, 3, 40, 24)
    found = gradients(vit(compile=dict(backend='aot_eager'), **variant), images)
    torch._dynamo.reset()
    # sums in another order
    assert_close(found, gradients(vit(**variant), images), rtol=1e-4, atol=1e-5)


def test_half_precision(variant):
    model, images = vit(**variant), torch.randn(2, 3, 40, 24)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = model(images, with_attention=True)
    expected = model(images, with_attention=True)
    assert found.attention.dtype == torch.float32
    # bfloat16 has eight bits; values are up to 3
    assert_close(found.patches.float(), expected.patches, rtol=0, atol=0.1)


@pytest.mark.parametrize('size', [(32, 32), (43, 24), (72, 56)], ids=str)
def test_in_operations_for_exporters(variant, size):
    model, images = vit(**variant), torch.randn(2, 3, *size)
    with torch.no_grad():
        found = model.tokens(images, True, symbolic=True)
        expected = model(images, True)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('format', ['onnx', 'export', 'torchscript'])
def test_exported(variant, format):
    """One file for every size."""
    graph = LocalizationGraph(randomize(more(variant)).eval(), 'lam').eval()
    network = load_exported(serialize(graph, format, {}), format)
    for size in ((1, 64, 64), (3, 61, 85), (2, 16, 16)):
        images = torch.randn(size[0], 3, *size[1:])
        assert_close(network.run(images), graph.expected(images), rtol=0, atol=1e-5)


def test_layer_depths(variant):
    model = vit(**variant)
    depths = {name: model.get_layer_depth(name)[0] for name, _ in model.named_parameters()}
    for name, depth in depths.items():
        if name.startswith('layers.'):
            assert depth == int(name.split('.')[1]) + 1
        else:
            assert depth == (5 if name.startswith('ln1') else 0), name


def test_bytes_of_a_gated_layer():
    patches = 2 + 3 + 20
    assert vit(family='dinov2', arch=GATED).hidden_bytes((32, 40)) == 4 * 48 * patches
    assert vit(family='dinov2').hidden_bytes((32, 40)) == 4 * 32 * patches


def test_keys_have_no_bias():
    model, images = vit(family='dinov3'), torch.randn(1, 3, 32, 32)
    expected = model(images, True)
    with torch.no_grad():
        model.layers[-1].attn.qkv.bias[16:32] += 5
    assert_close(model(images, True), expected, rtol=0, atol=0)


def test_rotation_depends_on_the_distance_alone():
    """Along an axis, and never for tokens that are no patches."""
    rotation = axial_rotation((4, 6), 2, 8, 100.0, torch.device('cpu'))
    query, key = torch.randn(2, 8)
    turned = rotate(torch.stack([query, key])[:, None].expand(2, 26, 8), rotation)
    assert torch.equal(turned[0, :2], query.expand(2, 8))
    logits = (turned[0] @ turned[1].T)[2:, 2:].unflatten(0, (4, 6)).unflatten(2, (4, 6))
    assert_close(logits[1, 2, 3, 5], logits[0, 1, 2, 4])
    assert not torch.isclose(logits[1, 2, 3, 5], logits[1, 2, 3, 4])


def test_random_start():
    arch = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
    for name, family in FAMILIES.items():
        model = MoReViT(arch=arch, family=name)
        model.init_weights()
        assert all(parameter.isfinite().all() for parameter in model.parameters())
        factors = [p for key, p in model.named_parameters() if '.gamma' in key]
        assert len(factors) == (8 if family.layer_scale else 0)
        assert all(torch.all(p == family.layer_scale) for p in factors)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(family='dinov4'), "unknown family 'dinov4', choose from .*'dinov3'"),
        (dict(family='dinov2', arch='huge'), "unknown arch 'huge', choose from .*'giant'"),
        (dict(family='dinov3', interpolate='size'), 'has no positions to resize'),
        (dict(arch=dict(GATED, ffn='moe')), "arch.ffn must be 'mlp' or 'swiglu'"),
        (dict(family='dinov3', arch=dict(GATED, num_heads=8)), 'a multiple of 4 channels'),
        (dict(family='dinov2', img_size=224, patch_size=15), 'multiple of patch_size'),
    ],
)
def test_impossible_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        vit(**kwargs)
