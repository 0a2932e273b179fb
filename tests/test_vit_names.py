"""Files of pretrained ViTs: names of every origin, and files that do not fit."""

import re

import pytest
import torch
from torch.testing import assert_close

from mmseg_more.checkpoints import convert_plain_vit
from mmseg_more.models import MoReViT
from mmseg_more.vit_names import family_of, rename_vit

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=24)
GATED = dict(ARCH, ffn='swiglu')

TIMM_BLOCK = {
    'ln1.': 'norm1.',
    'ln2.': 'norm2.',
    'attn.gamma1.weight': 'ls1.gamma',
    'ffn.gamma2.weight': 'ls2.gamma',
    'ffn.layers.0.0.': 'mlp.fc1.',
    'ffn.layers.1.': 'mlp.fc2.',
    'ffn.w': 'mlp.w',
}
TIMM = {'patch_embed.projection.': 'patch_embed.proj.', 'ln1.': 'norm.'}
OPENAI_BLOCK = {
    'ln1.': 'ln_1.',
    'ln2.': 'ln_2.',
    'attn.qkv.': 'attn.in_proj_',
    'attn.proj.': 'attn.out_proj.',
    'ffn.layers.0.0.': 'mlp.c_fc.',
    'ffn.layers.1.': 'mlp.c_proj.',
}
OPENAI = {
    'patch_embed.projection.': 'conv1.',
    'ln1.': 'ln_post.',
    'pre_norm.': 'ln_pre.',
    'cls_token': 'class_embedding',
    'pos_embed': 'positional_embedding',
}


def backbone(family, num_classes=1, num_registers=0, arch=ARCH, **kwargs):
    return MoReViT(
        arch=arch,
        family=family,
        aux_layer=-1,
        img_size=32,
        patch_size=8,
        num_classes=num_classes,
        num_registers=num_registers,
        **kwargs,
    )


def weights(family, num_registers=0, arch=ARCH):
    """A ViT in our names, registers apart, as of the original."""
    generator = torch.Generator().manual_seed(0)
    model = backbone(family, 1, num_registers, arch)
    found = {
        name: torch.randn(value.shape, generator=generator)
        for name, value in model.state_dict().items()
    }
    if num_registers:
        found['registers'] = found['cls_token'][:, :num_registers]
        found['cls_token'] = found['cls_token'][:, num_registers:]
    return found


def named(state, rest, block, blocks='blocks.'):
    """The same weights in names of another origin."""
    renamed = {}
    for name, value in state.items():
        start, table = '', rest
        if name.startswith('layers.'):
            _, number, name = name.split('.', 2)
            start, table = f'{blocks}{number}.', block
        for ours, theirs in table.items():
            if name.startswith(ours):
                name = theirs + name[len(ours) :]
                break
        renamed[start + name] = value
    return renamed


def deit3_of_the_authors(state):
    block = {**TIMM_BLOCK, 'attn.gamma1.weight': 'gamma_1', 'ffn.gamma2.weight': 'gamma_2'}
    return dict(model=named({**state, 'head.bias': torch.zeros(5)}, TIMM, block))


def dinov2_of_the_authors(state):
    state = {**state, 'mask_token': torch.zeros(1, 16)}
    return named(state, {**TIMM, 'registers': 'register_tokens'}, TIMM_BLOCK)


def dinov3_of_the_authors(state):
    """Its SwiGLU has three layers; files say that keys have no bias."""
    found = {}
    table = {**TIMM, 'registers': 'storage_tokens'}
    for name, value in named(state, table, TIMM_BLOCK).items():
        if '.mlp.w12.' in name:
            found[name.replace('w12', 'w1')], found[name.replace('w12', 'w2')] = (
                value.chunk(2)
            )
            continue
        found[name] = value
        if name.endswith('qkv.bias'):
            found[name + '_mask'] = torch.ones(48)
    return {**found, 'rope_embed.periods': torch.ones(2), 'mask_token': torch.zeros(1, 16)}


def clip_of_openai(state):
    visual = named(state, OPENAI, OPENAI_BLOCK, 'transformer.resblocks.')
    visual['class_embedding'] = visual['class_embedding'].flatten()
    visual['positional_embedding'] = visual['positional_embedding'].flatten(0, 1)
    visual['proj'] = torch.zeros(16, 4)
    text = {'transformer.resblocks.0.ln_1.weight': torch.ones(4)}
    return {**text, **{f'visual.{name}': value for name, value in visual.items()}}


def of_openmmlab(state):
    return dict(
        meta=dict(epoch=1),
        state_dict={
            **{f'backbone.{name}': value for name, value in state.items()},
            'head.layers.head.weight': torch.zeros(5, 16),
        },
    )


FILES = {
    'deit3 of the authors': ('deit3', 0, ARCH, deit3_of_the_authors),
    'deit3 of OpenMMLab': ('deit3', 0, ARCH, of_openmmlab),
    'dinov2 of the authors': ('dinov2', 0, ARCH, dinov2_of_the_authors),
    'dinov2 with registers of the authors': ('dinov2', 4, ARCH, dinov2_of_the_authors),
    'giant dinov2 of the authors': ('dinov2', 4, GATED, dinov2_of_the_authors),
    'dinov2 of OpenMMLab': ('dinov2', 0, ARCH, of_openmmlab),
    'dinov3 of the authors': ('dinov3', 4, ARCH, dinov3_of_the_authors),
    'gated dinov3 of the authors': ('dinov3', 4, GATED, dinov3_of_the_authors),
    'clip of OpenAI': ('clip', 0, ARCH, clip_of_openai),
    'clip of OpenMMLab': ('clip', 0, ARCH, of_openmmlab),
}


def flat(file):
    return file.get('model', file.get('state_dict', file))


@pytest.mark.parametrize('family, registers, arch, write', FILES.values(), ids=FILES)
def test_files_of_each_origin(family, registers, arch, write):
    """Classes start from the class token and its position, registers from the file's."""
    state = weights(family, registers, arch)
    file = write(state)
    target = backbone(family, 3, registers + 2, arch).state_dict()
    found = convert_plain_vit(file, target, registers + 2, (4, 4), family)
    assert [record.source for record in found.records] == list(flat(file))
    assert sorted(found.state_dict) == sorted(target)
    token = found.state_dict['cls_token']
    assert torch.equal(token[:, -3:], state['cls_token'].expand(-1, 3, -1))
    if registers:
        assert torch.equal(token[:, :registers], state['registers'])
    others = set(target) - {'cls_token', 'pos_embed'}
    for name in others:
        assert torch.equal(found.state_dict[name], state[name]), name
    if 'pos_embed' in target:
        positions = found.state_dict['pos_embed']
        assert torch.equal(positions[:, -16:], state['pos_embed'][:, -16:])
        of_classes = positions[:, -19:-16]
        if family == 'deit3':
            assert positions.shape[1] == 16
        else:
            assert torch.equal(of_classes, state['pos_embed'][:, :1].expand(-1, 3, -1))


def test_registers_that_the_file_has_not_differ():
    target = backbone('dinov2', 2, 3).state_dict()
    file = dinov2_of_the_authors(weights('dinov2'))
    token = convert_plain_vit(file, target, 3, (4, 4), 'dinov2').state_dict['cls_token']
    assert len(token.squeeze(0).unique(dim=0)) == 3 + 1
    assert token[:, :3].std() < 0.05


def test_positions_of_another_grid():
    state = weights('deit3')
    state['pos_embed'] = (
        torch.nn.functional.interpolate(
            state['pos_embed'].mT.unflatten(2, (4, 4)), size=(6, 6), mode='bicubic'
        )
        .flatten(2)
        .mT
    )
    target = backbone('deit3').state_dict()
    found = convert_plain_vit(of_openmmlab(state), target, 0, (4, 4), 'deit3')
    expected = torch.nn.functional.interpolate(
        state['pos_embed'].mT.unflatten(2, (6, 6)), size=(4, 4), mode='bicubic'
    )
    assert_close(found.state_dict['pos_embed'], expected.flatten(2).mT)


@pytest.mark.parametrize('family, registers, arch, write', FILES.values(), ids=FILES)
def test_a_backbone_of_another_family(family, registers, arch, write):
    file = write(weights(family, registers, arch))
    assert family_of(rename_vit(flat(file)).weights) == family
    for other in {'vit', 'dinov2', 'dinov3', 'clip'} - {family}:
        with pytest.raises(ValueError, match=f"use backbone.family='{family}'"):
            convert_plain_vit(file, backbone(other).state_dict(), 0, (4, 4), other)


def test_more_registers_than_the_backbone():
    file = dinov2_of_the_authors(weights('dinov2', 4))
    target = backbone('dinov2', 2, 1).state_dict()
    with pytest.raises(ValueError, match='use backbone.num_registers=4'):
        convert_plain_vit(file, target, 1, (4, 4), 'dinov2')


@pytest.mark.parametrize('arch, other', [(ARCH, GATED), (GATED, ARCH)])
def test_another_feed_forward_network(arch, other):
    file = dinov2_of_the_authors(weights('dinov2', 0, arch))
    target = backbone('dinov2', arch=other).state_dict()
    with pytest.raises(ValueError, match="use the file's arch, with ffn='swiglu'"):
        convert_plain_vit(file, target, 0, (4, 4), 'dinov2')


def test_no_vit():
    with pytest.raises(ValueError, match=re.escape("it has keys such as ['conv1.weight']")):
        rename_vit({'conv1.weight': torch.zeros(1)})


def test_safetensors(tmp_path, monkeypatch):
    safetensors = pytest.importorskip(
        'safetensors.torch', reason='the packages of requirements/backbones.txt are missing'
    )
    path = tmp_path / 'vit.safetensors'
    state = weights('dinov2')
    safetensors.save_file(dinov2_of_the_authors(state), path)
    model = backbone('dinov2', 3, pretrained=str(path))
    model.init_weights()
    assert torch.equal(model.ln1.weight, state['ln1.weight'])
    path.write_bytes(b'nothing')
    with pytest.raises(ValueError, match='vit.safetensors does not read as safetensors'):
        model.init_weights()
    monkeypatch.setitem(__import__('sys').modules, 'safetensors', None)
    with pytest.raises(ImportError, match='pip install safetensors'):
        model.init_weights()
