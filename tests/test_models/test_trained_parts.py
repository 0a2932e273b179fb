"""What of the backbone is trained: all of it, the last blocks, low-rank additions."""

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.runner import load_checkpoint
from torch.testing import assert_close

from mmseg_more.deployment import LocalizationGraph, load_exported, serialize
from mmseg_more.models import MoReViT
from mmseg_more.models.backbones.lora import plain_names
from tiny_model import batch, tiny_config, tiny_model

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
HEADS = ('classifier', 'aux_classifier', 'graph', 'decode_head')
EMBEDDING = ('pos_embed', 'patch_embed')
LORA = dict(rank=2, alpha=4)
TRAINED = {
    'all': {},
    'without embedding': dict(frozen_stages=0),
    'last block': dict(frozen_stages=3),
    'tokens': dict(frozen_stages=4),
    'LoRA': dict(lora=LORA),
}


def more(model=None, **backbone):
    """The tiny MoRe, late enough for all losses."""
    backbone = dict(tiny_config().backbone, **backbone)
    return tiny_model(3000, backbone=backbone, **(model or {}))


def vit(seed=0, **kwargs):
    defaults = dict(arch=ARCH, img_size=32, patch_size=8, num_classes=3, num_registers=2)
    model = MoReViT(**{**defaults, **kwargs})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def optimizer_of(model, constructor='MergedOptimWrapperConstructor', **paramwise):
    cfg = dict(
        type='OptimWrapper',
        constructor=constructor,
        optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1),
    )
    if paramwise:
        cfg['paramwise_cfg'] = paramwise
    return build_optim_wrapper(model, cfg)


def step(model, optim_wrapper):
    losses = model(*batch([1, 0, 1], [0, 1, 0]), mode='loss')
    optim_wrapper.update_params(sum(losses.values()))


@pytest.fixture(params=TRAINED, ids=lambda name: name.replace(' ', '-'))
def options(request):
    return TRAINED[request.param]


# ---------------------------------------------------------------------- what is frozen
@pytest.mark.parametrize(
    'stages, blocks', [(-1, 4), (0, 4), (1, 3), (3, 1), (4, 0)], ids=str
)
def test_stages(stages, blocks):
    model = more(frozen_stages=stages)
    found = trained(model)
    for name, _ in model.named_parameters():
        part = name.split('.')
        expected = True
        if name.startswith('backbone.layers.'):
            expected = int(part[2]) >= 4 - blocks
        elif part[0] == 'backbone' and part[1] in EMBEDDING:
            expected = stages == -1
        elif part[0] == 'backbone' and part[1] == 'ln1':
            expected = stages < 4
        assert (name in found) == expected, name


def test_norm_before_the_blocks_belongs_to_the_embedding():
    assert 'pre_norm.weight' in trained(vit(family='clip'))
    assert not {'pre_norm.weight', 'pre_norm.bias'} & trained(
        vit(family='clip', frozen_stages=0)
    )


def test_lora_alone_is_trained():
    model = more(lora=LORA)
    names = {'cls_token'} | {
        f'layers.{i}.attn.qkv.lora_{part}.weight'
        for i in range(4)
        for part in ('down', 'up')
    }
    assert trained(model.backbone) == names
    assert all(any(name.startswith(head) for name in trained(model)) for head in HEADS)


@pytest.mark.parametrize(
    'targets, layers',
    [
        (['attn.qkv'], 4),
        (['proj', 'ffn.layers.1'], 8),
        ([r'layers\.(2|3)\.(attn|ffn)\..*'], 8),
    ],
)
def test_targets(targets, layers):
    found = trained(vit(lora=dict(rank=2, targets=targets)))
    assert len(found) == 1 + 2 * layers


def test_what_is_trained_learns_and_nothing_else_moves(options):
    """Without weight decay, gradients or momentum for what is frozen."""
    model = more(**options).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for paramwise in ({}, dict(custom_keys=dict(graph=dict(lr_mult=10.0)))):
        optim_wrapper = optimizer_of(model, **paramwise)
        step(model, optim_wrapper)
        step(model, optim_wrapper)  # LoRA's A has no gradient while B is 0
        with_state = {id(p) for p in optim_wrapper.optimizer.state}
        expected = trained(model)
        for name, parameter in model.named_parameters():
            assert (id(parameter) in with_state) == (name in expected), name
    for name, parameter in model.named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert moved == (name in expected), name


def test_every_trained_parameter_gets_a_gradient(options):
    """At any iteration: DistributedDataParallel waits for nothing."""
    for iteration in (0, 3000):
        model = more(**options).train()
        model.iteration = iteration
        sum(model(*batch([1, 0, 1], [0, 1, 0]), mode='loss').values()).backward()
        with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
        assert with_gradient == trained(model)


def test_gradients_are_those_of_the_whole(options):
    """What is trained has the gradient that it has where everything is."""
    if 'lora' in options:
        pytest.skip('has other weights')
    results = []
    for kwargs in ({}, options):
        model = more(**kwargs).train()
        sum(model(*batch([1, 0, 1], [0, 1, 0]), mode='loss').values()).backward()
        results.append({n: p.grad for n, p in model.named_parameters()})
    whole, part = results
    for name, gradient in part.items():
        if gradient is not None:
            assert torch.equal(gradient, whole[name]), name


def test_frozen_blocks_skip_nothing():
    model = vit(frozen_stages=2, drop_path_rate=0.5).train()
    assert [layer.training for layer in model.layers] == [False, False, True, True]
    assert not any(layer.training for layer in model.eval().layers)


def test_features_of_frozen_blocks_change_with_the_tokens():
    """Only what goes into the first block could be kept from step to step."""
    model, images = vit(frozen_stages=4), torch.randn(1, 3, 32, 32)
    extra, seen = model.num_extra_tokens, []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, extra:]))
    with torch.no_grad():
        model(images)
        model.cls_token += torch.randn_like(model.cls_token)
        model(images)
    changed = [not torch.equal(a, b) for a, b in zip(seen[:4], seen[4:])]
    assert changed == [False, True, True, True]


@pytest.mark.parametrize(
    'constructor',
    [
        'BackboneDecayOptimWrapperConstructor',
        'mmpretrain.LearningRateDecayOptimWrapperConstructor',
    ],
)
def test_rates_by_depth(constructor, options):
    model = more(**options)
    found = optimizer_of(model, constructor, layer_decay_rate=0.5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {
        names[id(parameter)]: group['lr']
        for group in found.optimizer.param_groups
        for parameter in group['params']
    }
    assert rates.keys() == trained(model)
    for name, rate in rates.items():
        depth = 0 if name in ('backbone.cls_token', 'backbone.pos_embed') else 5
        if name.startswith('backbone.patch_embed'):
            depth = 0
        if name.startswith('backbone.layers.'):
            depth = int(name.split('.')[2]) + 1
        assert rate == pytest.approx(1e-2 * 0.5 ** (5 - depth)), name


# -------------------------------------------------------------------------------- LoRA
def test_addition():
    """y = W x + b + alpha / rank B A x."""
    layer = vit(lora=LORA).layers[0].attn.qkv
    x = torch.randn(5, 16)
    plain = x @ layer.original_layer.weight.T + layer.original_layer.bias
    added = x @ layer.lora_down.weight.T @ layer.lora_up.weight.T * 2
    # another order of the sums
    assert_close(layer(x), plain + added, rtol=1e-5, atol=1e-5)
    assert vit(lora=dict(rank=8)).layers[0].attn.qkv.scaling == 1


@pytest.mark.parametrize('family', ['vit', 'dinov3'])
def test_start_of_additions_everywhere(family):
    """Layers of the feed-forward network too start as they do without additions."""
    options = dict(arch=ARCH, img_size=32, patch_size=8, num_classes=3, family=family)
    starts = []
    for lora in (None, dict(rank=2, targets=['qkv', 'proj', r'layers.*\.ffn\..*'])):
        model = MoReViT(**options, lora=lora)
        torch.manual_seed(0)
        model.layers.init_weights()
        starts.append(model.state_dict())
    plain, added = starts
    ups = [name for name in added if name.endswith('lora_up.weight')]
    assert len(ups) == 16
    assert all((added[name] == 0).all() for name in ups)
    found = plain_names(added)
    of_ffn = [name for name in plain if '.ffn.' in name and 'gamma' not in name]
    assert_close({n: found[n] for n in of_ffn}, {n: plain[n] for n in of_ffn})


def test_it_starts_as_the_plain_backbone(tmp_path):
    """Also from a plain checkpoint, by PyTorch's and by MMEngine's loading."""
    plain = more()
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    images, _ = batch([1, 0, 1])
    for load in (
        lambda m: m.load_state_dict(plain.state_dict(), strict=False),
        lambda m: load_checkpoint(m, str(tmp_path / 'plain.pth')),
    ):
        model = more(lora=LORA)
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data.zero_()  # must come from the file
        load(model)
        # sums in another order
        expected = plain.eval().localize(images)
        assert_close(model.localize(images), expected, rtol=1e-5, atol=1e-6)


def test_strict_loading_names_what_a_plain_checkpoint_lacks():
    keys = vit(lora=LORA).load_state_dict(vit().state_dict(), strict=False)
    assert keys.unexpected_keys == []
    assert all('.lora_' in name for name in keys.missing_keys)
    assert len(keys.missing_keys) == 8


def test_pretrained_file(tmp_path, monkeypatch):
    lines = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'info', lambda line, *_: lines.append(line))
    plain = vit(num_classes=1, num_registers=0)
    torch.save(plain.state_dict(), tmp_path / 'vit.pth')
    model = vit(lora=LORA, pretrained=str(tmp_path / 'vit.pth'))
    model.init_weights()
    assert torch.equal(
        model.layers[2].attn.qkv.original_layer.weight, plain.layers[2].attn.qkv.weight
    )
    assert any('Not found in the file: nothing' in line for line in lines)


def test_checkpoint_is_whole():
    """It loads into the same model, strictly, and gives the same."""
    model, other = vit(lora=LORA), vit(seed=1, lora=LORA)
    images = torch.randn(2, 3, 40, 24)
    assert 'layers.0.attn.proj.weight' in model.state_dict()
    other.load_state_dict(model.state_dict(), strict=True)
    assert_close(other(images), model(images), rtol=0, atol=0)


@pytest.mark.parametrize('family', ['vit', 'dinov3'])
def test_merged(family):
    """The same maps, by a plain backbone; keys have a bias or have none."""
    options = dict(family=family, lora=dict(LORA, targets=['qkv', 'proj', 'layers.1']))
    model, images = vit(**options), torch.randn(2, 3, 40, 24)
    expected = model(images, with_attention=True)
    model.merge_lora()
    # another order of the sums
    assert_close(model(images, with_attention=True), expected, rtol=1e-4, atol=1e-4)
    other = vit(seed=1, family=family)
    other.load_state_dict(model.state_dict(), strict=True)
    # weights that lie elsewhere may be summed in another order
    assert_close(other(images, True), model(images, True), rtol=1e-5, atol=1e-5)


def test_attention_map_is_that_of_the_attention():
    """Computed without keys, from the layer's weights: the addition counts."""
    model, x = vit(lora=LORA), torch.randn(2, 12, 16)
    layer = model.layers[-1]
    query, key, _ = layer.attn.qkv(layer.ln1(x)).chunk(3, dim=-1)
    expected = query[:, 2:5] @ key[:, 5:].transpose(1, 2)
    assert_close(layer.class_attention(x, 2, 5), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('format', ['onnx', 'export', 'torchscript'])
def test_exported(format):
    """With the additions in it, merged or not."""
    model = more(lora=LORA).eval()
    torch.nn.init.normal_(model.backbone.layers[0].attn.qkv.lora_up.weight)
    graph = LocalizationGraph(model, 'attention').eval()
    network = load_exported(serialize(graph, format, {}), format)
    images = torch.randn(1, 3, 61, 85)
    assert_close(network.run(images), graph.expected(images), rtol=0, atol=1e-5)


# ------------------------------------------------------------------- with other switches
def tokens_and_gradients(model, images):
    torch.manual_seed(0)
    tokens = model.train()(images)
    sum(part.square().sum() for part in tokens[:3]).backward()
    return [*tokens[:3], *(p.grad for p in model.parameters() if p.requires_grad)]


@pytest.mark.parametrize(
    'switch', [dict(with_cp=True), dict(compile=dict(backend='aot_eager'))], ids=str
)
def test_other_switches(options, switch):
    torch._dynamo.reset()
    images = torch.randn(2, 3, 40, 24)
    found = tokens_and_gradients(vit(**switch, **options), images)
    torch._dynamo.reset()
    expected = tokens_and_gradients(vit(**options), images)
    # compiled: sums in another order
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_half_precision(options):
    """Tokens to the bits of bfloat16; the attention map stays in float32."""
    model, images = vit(**options), torch.randn(2, 3, 40, 24)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = model(images, with_attention=True)
    expected = model(images, with_attention=True)
    assert found.attention.dtype == torch.float32
    # bfloat16 has eight bits; values are up to 3
    assert_close(found.patches.float(), expected.patches, rtol=0, atol=0.1)


@pytest.mark.parametrize(
    'backbone, message',
    [
        (dict(frozen_stages=5), 'frozen_stages must be -1 .* to 4 .*, got 5'),
        (dict(frozen_stages=-2), 'got -2'),
        (dict(frozen_stages=2, lora=LORA), 'frozen_stages or lora, not both'),
        (dict(lora=dict(rank=0)), 'lora.rank must be at least 1, got 0'),
        (dict(lora=dict(alpha=2)), 'needs rank'),
        (dict(lora=dict(rank=2, dropout=0.1)), 'takes rank, alpha, drop_rate, targets'),
        (dict(lora=dict(rank=2, drop_rate=1)), r'drop_rate must be in \[0, 1\), got 1'),
        (dict(lora=dict(rank=2, targets='qkv')), 'must be a list of names'),
        (dict(lora=dict(rank=2, targets=['query'])), "'query' names no linear layer"),
    ],
)
def test_impossible_arguments(backbone, message):
    with pytest.raises(ValueError, match=message):
        vit(**backbone)
