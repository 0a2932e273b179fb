"""Families of pretrained ViTs against transformers and timm, with random weights.

Each is saved as a file in the names of its origin, loaded by a MoReViT with one class, and
compared token by token and gradient by gradient.
"""

import re
from typing import Callable, NamedTuple

import pytest
import torch
from torch.testing import assert_close

from mmseg_more.models import MoReViT
from mmseg_more.vit_names import rename_vit

HINT = 'parity of backbones needs the packages of requirements/backbones.txt'
ARCH = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)
GATED = dict(ARCH, feedforward_channels=48, ffn='swiglu')
TRANSFORMERS = dict(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64
)
TIMM = dict(embed_dim=32, depth=3, num_heads=2, num_classes=0, dynamic_img_size=True)
# sums in another order
CLOSE = dict(rtol=1e-5, atol=1e-5)


class Original(NamedTuple):
    """A model of another package, and what it corresponds to."""

    build: Callable[[], torch.nn.Module]
    settings: dict
    patch: int = 8
    arguments: dict = {}
    registers: int = 0


def of_transformers(name, **settings):
    def build():
        transformers = pytest.importorskip('transformers', reason=HINT)
        config = getattr(transformers, f'{name}Config')
        cfg = config(**{**TRANSFORMERS, 'image_size': 32, 'patch_size': 8, **settings})
        return getattr(transformers, f'{name}Model')(cfg)

    return build


def of_timm(name, **settings):
    def build():
        pytest.importorskip('timm', reason=HINT)
        from timm.models import eva, vision_transformer

        kind = dict(VisionTransformer=vision_transformer.VisionTransformer, Eva=eva.Eva)
        size = dict(img_size=32, patch_size=8)
        return kind[name](**{**TIMM, **size, **settings}, global_pool='token')

    return build


def swiglu_of_timm():
    """DINOv2's giant, whose gate is one layer with the other."""
    pytest.importorskip('timm', reason=HINT)
    from timm.layers import SwiGLUPacked

    return of_timm(
        'VisionTransformer',
        init_values=1e-5,
        mlp_ratio=3,
        mlp_layer=SwiGLUPacked,
        act_layer=torch.nn.SiLU,
    )()


def quick_gelu_of_timm():
    pytest.importorskip('timm', reason=HINT)
    norm = dict(norm_layer=lambda dims, **_: torch.nn.LayerNorm(dims, eps=1e-5))
    return of_timm('VisionTransformer', pre_norm=True, act_layer='quick_gelu', **norm)()


def rope_of_timm(**settings):
    norm = dict(norm_layer=lambda dims, **_: torch.nn.LayerNorm(dims, eps=1e-5))
    rope = dict(rope_type='dinov3', rope_temperature=100, rope_rotate_half=True)
    positions = dict(use_rot_pos_emb=True, use_abs_pos_emb=False, num_reg_tokens=4)
    return of_timm(
        'Eva',
        **{'qkv_bias': True, 'mlp_ratio': 2, **settings},
        **rope,
        **positions,
        **norm,
        init_values=1e-5,
        use_fc_norm=False,
    )


ORIGINALS = {
    'vit, transformers': Original(
        of_transformers('ViT', layer_norm_eps=1e-6),
        dict(interpolate='size'),
        arguments=dict(interpolate_pos_encoding=True),
    ),
    'deit3, timm': Original(
        of_timm('VisionTransformer', mlp_ratio=2, init_values=1e-6, no_embed_class=True),
        dict(family='deit3', interpolate='antialias'),
    ),
    'dinov2, transformers': Original(
        of_transformers('Dinov2', mlp_ratio=2), dict(family='dinov2', interpolate='size')
    ),
    'dinov2 with registers, transformers': Original(
        of_transformers('Dinov2WithRegisters', mlp_ratio=2, num_register_tokens=4),
        dict(family='dinov2', interpolate='antialias'),
        registers=4,
    ),
    'dinov2 with swiglu, transformers': Original(
        of_transformers('Dinov2', mlp_ratio=2, use_swiglu_ffn=True),
        dict(family='dinov2', interpolate='size', arch=GATED),
    ),
    'dinov2, timm': Original(
        of_timm('VisionTransformer', mlp_ratio=2, init_values=1e-5),
        dict(family='dinov2', interpolate='antialias'),
    ),
    'dinov2 with registers, timm': Original(
        of_timm(
            'VisionTransformer',
            mlp_ratio=2,
            init_values=1e-5,
            reg_tokens=4,
            no_embed_class=True,
        ),
        dict(family='dinov2', interpolate='antialias'),
        registers=4,
    ),
    'dinov2 with swiglu, timm': Original(
        swiglu_of_timm, dict(family='dinov2', interpolate='antialias', arch=GATED)
    ),
    'dinov3, transformers': Original(
        of_transformers('DINOv3ViT', num_register_tokens=4),
        dict(family='dinov3'),
        registers=4,
    ),
    'dinov3 with swiglu, transformers': Original(
        of_transformers(
            'DINOv3ViT',
            num_register_tokens=4,
            use_gated_mlp=True,
            hidden_act='silu',
            intermediate_size=48,
        ),
        dict(family='dinov3', arch=GATED),
        registers=4,
    ),
    'dinov3, timm': Original(rope_of_timm(), dict(family='dinov3'), registers=4),
    'dinov3 without biases, timm': Original(
        rope_of_timm(qkv_bias=False), dict(family='dinov3'), registers=4
    ),
    'dinov3 with swiglu, timm': Original(
        rope_of_timm(mlp_ratio=1.5, swiglu_mlp=True),
        dict(family='dinov3', arch=GATED),
        registers=4,
    ),
    'clip, transformers': Original(
        of_transformers('CLIPVision'),
        dict(family='clip'),
        arguments=dict(interpolate_pos_encoding=True),
    ),
    'clip, timm': Original(
        quick_gelu_of_timm,
        dict(
            family='clip',
            interpolate='antialias',
            arch=dict(ARCH, feedforward_channels=128),
        ),
    ),
}


@pytest.fixture(
    params=ORIGINALS, ids=lambda name: name.replace(', ', '-').replace(' ', '-')
)
def pair(request, tmp_path):
    """The original, ours with its weights, and what the original is."""
    original = ORIGINALS[request.param]
    torch.manual_seed(0)
    reference = original.build().eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    if hasattr(reference, 'save_pretrained'):
        reference.save_pretrained(tmp_path)  # in the names that the hub's files have
        file = tmp_path / 'model.safetensors'
    else:
        file = tmp_path / 'vit.pth'
        torch.save(reference.state_dict(), file)
    ours = MoReViT(
        **{'arch': ARCH, **original.settings},
        img_size=32,
        patch_size=original.patch,
        num_classes=1,
        num_registers=original.registers,
        init_cfg=dict(type='Pretrained', checkpoint=str(file)),
    )
    ours.init_weights()
    return reference, ours.eval(), original


def blocks_of(model):
    """Modules whose outputs are those of the blocks."""
    for name in ('blocks', 'layers', 'encoder.layer', 'encoder.layers', 'model.layer'):
        try:
            return model.get_submodule(name)
        except AttributeError:
            pass
    raise AssertionError('no blocks found')


def outputs_of_blocks(model, run):
    seen = []

    def keep(module, args, output):
        seen.append(output[0] if isinstance(output, tuple) else output)

    hooks = [block.register_forward_hook(keep) for block in blocks_of(model)]
    run()
    for hook in hooks:
        hook.remove()
    return seen


def in_our_order(tokens, registers):
    """Class, registers, patches -> registers, class, patches."""
    order = [*range(1, registers + 1), 0]
    return torch.cat([tokens[:, order], tokens[:, registers + 1 :]], dim=1)


@pytest.mark.parametrize('size', [(32, 32), (40, 24), (72, 56)], ids=str)
def test_same_tokens_and_gradients(pair, size):
    reference, ours, original = pair
    images = torch.randn(2, 3, *size)
    run = getattr(reference, 'forward_features', reference)
    theirs = outputs_of_blocks(reference, lambda: run(images, **original.arguments))
    mine = outputs_of_blocks(ours, lambda: ours.tokens(images))
    theirs = [in_our_order(tokens, original.registers) for tokens in theirs]
    assert len(theirs) == len(mine) == 3
    for found, expected in zip(mine, theirs):
        assert_close(found, expected, **CLOSE)

    weight = torch.randn(theirs[-1].shape)
    for tokens in (theirs[-1], mine[-1]):
        (tokens * weight).sum().backward()
    expected = gradients_in_our_names(reference)
    expected['cls_token'] = torch.cat(
        [expected.pop('registers', expected['cls_token'][:, :0]), expected['cls_token']], 1
    )
    names = {
        name
        for name, parameter in ours.named_parameters()
        if parameter.grad is not None and not without_counterpart(name, reference, ours)
    }
    assert len(names) >= 3 * 12 and {'cls_token', 'patch_embed.projection.weight'} < names
    for name in names:
        largest = expected[name].abs().max().clamp(min=1).item()
        found = ours.get_parameter(name).grad / largest
        assert_close(found, expected[name] / largest, **CLOSE)


def gradients_in_our_names(model):
    grads = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }
    return rename_vit(grads).weights


def without_counterpart(name, reference, ours):
    """Positions of timm's that are part of its tokens, biases that timm has not."""
    if name == 'pos_embed':
        theirs = getattr(reference, 'pos_embed', None)
        return theirs is not None and theirs.shape != ours.pos_embed.shape
    biases = [key for key, _ in reference.named_parameters() if re.search('q.*bias', key)]
    return name.endswith('qkv.bias') and not biases


@pytest.mark.parametrize('size', [(32, 32), (56, 40)], ids=str)
def test_same_patches_after_the_norm(pair, size):
    reference, ours, original = pair
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        if hasattr(reference, 'forward_features'):
            tokens = reference.forward_features(images)
        else:
            tokens = reference(images, **original.arguments).last_hidden_state
        if 'CLIP' in type(reference).__name__:  # norms the class token alone
            tokens = reference.post_layernorm(tokens)
        found = ours(images)
    expected = tokens[:, 1 + original.registers :].transpose(1, 2)
    assert_close(found.patches.flatten(2), expected, **CLOSE)
    assert_close(found.classes[:, 0], tokens[:, 0], **CLOSE)


def test_attention_is_that_of_the_last_block(pair):
    """Summed over heads, before softmax, queries and keys rotated where they are."""
    _, ours, original = pair
    images = torch.randn(1, 3, 40, 24)
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def keep(query, key, value):
        seen.append(query @ key.transpose(-1, -2))
        return attend(query, key, value)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.nn.functional, 'scaled_dot_product_attention', keep)
        attention = ours(images, with_attention=True).attention
    first = original.registers
    expected = seen[-1].sum(1)[:, first : first + 1, first + 1 :]
    assert_close(attention.flatten(2), expected, rtol=1e-5, atol=1e-4)
