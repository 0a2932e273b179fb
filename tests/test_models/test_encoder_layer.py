"""The block of the ViT against mmpretrain's."""

import pytest
import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch.testing import assert_close

from mmseg_more.models.backbones.encoder_layer import EncoderLayer


def layers():
    """Ours and mmpretrain's with the same weights."""
    ours = EncoderLayer(16, 2, 32)
    reference = TransformerEncoderLayer(16, 2, 32, norm_cfg=dict(type='LN', eps=1e-6))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    reference.load_state_dict(ours.state_dict(), strict=True)
    return ours, reference


def tokens():
    return torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(1))


def test_value_and_gradients():
    found = []
    for layer in layers():
        x = tokens().requires_grad_()
        layer(x).square().sum().backward()
        found.append([layer(x), x.grad, *(p.grad for p in layer.parameters())])
    assert_close(*found, rtol=1e-5, atol=1e-3)  # gradients of hundreds


def test_same_start_as_mmpretrain():
    torch.manual_seed(0)
    ours = EncoderLayer(16, 2, 32)
    ours.init_weights()
    torch.manual_seed(0)
    reference = TransformerEncoderLayer(16, 2, 32)
    reference.init_weights()
    assert list(ours.state_dict()) == list(reference.state_dict())
    assert_close(ours.state_dict(), reference.state_dict(), rtol=0, atol=0)


def test_drop_path():
    """A branch is skipped in training for some samples, never in evaluation."""
    torch.manual_seed(0)
    layer = EncoderLayer(16, 2, 32, drop_path_rate=0.5)
    x = tokens()[:1].expand(64, -1, -1)
    kinds = layer(x).flatten(1).round(decimals=4).unique(dim=0)
    assert len(kinds) == 4  # each of both branches taken or not
    assert len(layer.eval()(x).flatten(1).round(decimals=4).unique(dim=0)) == 1


def test_class_attention():
    layer, _ = layers()
    x = tokens()
    query, key, _ = layer.attn.qkv(layer.ln1(x)).chunk(3, dim=-1)
    expected = (query @ key.transpose(1, 2))[:, 2:5, 5:]
    actual = layer.class_attention(x, 2, 5)
    assert_close(actual, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_class_attention_beyond_float16(dtype):
    layer, _ = layers()
    with torch.no_grad():
        layer.attn.qkv.weight.mul_(100)
    expected = layer.class_attention(tokens(), 2, 5)
    assert expected.abs().max() > torch.finfo(torch.float16).max
    with torch.autocast('cpu', dtype=dtype):
        actual = layer.class_attention(tokens(), 2, 5)
    assert_close(actual, expected)
