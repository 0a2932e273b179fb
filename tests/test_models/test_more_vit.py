import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmpretrain.models import VisionTransformer
from torch.testing import assert_close

import stock_model
from mmseg_more.checkpoints import convert_official, convert_plain_vit, unwrap_state_dict
from mmseg_more.models import MoReViT
from tiny_model import tiny_config, tiny_model

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)


def _vit(**kwargs):
    defaults = dict(arch=ARCH, img_size=32, patch_size=8, num_classes=3, num_registers=2)
    return MoReViT(**{**defaults, **kwargs})


def _randomize(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return model


@pytest.mark.parametrize('size', [(32, 32), (40, 24), (8, 8), (35, 50)])
def test_shapes(size):
    tokens = _vit()(torch.randn(2, 3, *size), with_attention=True)
    grid = size[0] // 8, size[1] // 8
    assert tokens.classes.shape == (2, 3, 16)
    assert tokens.patches.shape == tokens.aux_patches.shape == (2, 16, *grid)
    assert tokens.attention.shape == (2, 3, *grid)
    assert _vit()(torch.randn(1, 3, *size)).attention is None


def test_equals_a_plain_vit():
    """With one class token and no register it is mmpretrain's ViT."""
    plain = _randomize(
        VisionTransformer(
            ARCH, img_size=32, patch_size=8, out_type='raw', out_indices=[1, 3]
        )
    )
    ours = _vit(num_classes=1, num_registers=0)
    ours.load_state_dict(plain.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    aux, last = plain(images)
    tokens = ours(images)
    close = dict(rtol=1e-4, atol=1e-5)
    assert_close(tokens.classes[:, 0], last[:, 0], **close)
    assert_close(tokens.patches.flatten(2), last[:, 1:].transpose(1, 2), **close)
    assert_close(tokens.aux_patches.flatten(2), aux[:, 1:].transpose(1, 2), **close)


def test_attention_is_the_sum_over_heads():
    vit = _randomize(_vit())
    images, seen = torch.randn(1, 3, 32, 32), []
    vit.layers[-1].attn.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    attention = vit(images, with_attention=True).attention
    qkv = vit.layers[-1].attn.qkv(seen[0]).reshape(1, -1, 3, 2, 8)
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)
    expected = (q @ k.transpose(-1, -2)).sum(1)[:, 2:5, 5:]
    assert_close(attention.flatten(2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('interpolate', ['offset', 'size'])
def test_position_resize(interpolate):
    vit = _randomize(_vit(interpolate=interpolate))
    assert vit._positions((4, 4), (32, 32)) is vit.pos_embed
    base = vit.pos_embed[:, 5:].transpose(1, 2).reshape(1, 16, 4, 4)
    clean = F.interpolate(base, size=(5, 3), mode='bicubic')
    positions = vit._positions((5, 3), (40, 24))
    resized = positions[:, 5:].transpose(1, 2).unflatten(2, (5, 3))
    assert torch.allclose(resized, clean) == (interpolate == 'size')
    assert torch.equal(positions[:, :5], vit.pos_embed[:, :5])


def test_positions_for_a_non_square_grid_of_as_many_patches():
    vit = _randomize(_vit())
    assert not torch.equal(vit._positions((2, 8), (16, 64)), vit.pos_embed)


@pytest.mark.parametrize('size', [(32, 33), (39, 32), (33, 39), (35, 35)])
def test_positions_for_their_own_grid(size):
    """With the offset they are resized unless the image, not the grid alone, is square."""
    vit = _randomize(_vit())
    images = torch.randn(1, 3, *size)
    base = vit.pos_embed[:, 5:].transpose(1, 2).reshape(1, 16, 4, 4)
    shifted = F.interpolate(
        base, scale_factor=4.1 / 4, mode='bicubic', recompute_scale_factor=False
    )
    expected = base if size[0] == size[1] else shifted
    positions = vit._positions((4, 4), size)[:, 5:]
    assert_close(positions, expected.flatten(2).transpose(1, 2), rtol=0, atol=0)
    assert torch.equal(vit(images).patches, vit(images[..., :32, :32]).patches) == (
        size[0] == size[1]
    )
    vit.interpolate = 'size'
    assert torch.equal(vit(images).patches, vit(images[..., :32, :32]).patches)


def test_image_smaller_than_a_patch():
    with pytest.raises(ValueError, match='7x20 is smaller than one patch'):
        _vit()(torch.randn(1, 3, 7, 20))


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(arch='huge-x'), 'unknown arch'),
        (dict(arch=dict(embed_dims=8)), 'exactly the keys'),
        (dict(arch=dict(ARCH, depth=3)), 'exactly the keys'),
        (dict(img_size=30), 'multiple of patch_size'),
        (dict(aux_layer=4), 'not one of the 4 blocks'),
        (dict(aux_layer=-5), 'not one of the 4 blocks'),
        (dict(interpolate='nearest'), 'interpolate must be'),
        (dict(num_classes=0), 'num_classes must be'),
    ],
)
def test_impossible_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        _vit(**kwargs)


def test_unknown_argument():
    with pytest.raises(TypeError, match='dpeth'):
        _vit(dpeth=4)


# ------------------------------------------------------- pretrained start
def _plain_checkpoint(grid=4):
    torch.manual_seed(1)
    return _randomize(VisionTransformer(ARCH, img_size=8 * grid, patch_size=8)).state_dict()


def _timm_names(state):
    rename = [
        ('patch_embed.projection', 'patch_embed.proj'),
        ('layers.', 'blocks.'),
        ('.ln1.', '.norm1.'),
        ('.ln2.', '.norm2.'),
        ('.ffn.blocks.0.0.', '.mlp.fc1.'),
        ('.ffn.blocks.1.', '.mlp.fc2.'),
    ]
    renamed = {}
    for key, value in state.items():
        if key.startswith('ln1.'):
            key = key.replace('ln1', 'norm')
        for old, new in rename:
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


@pytest.mark.parametrize('style', ['timm', 'mmpretrain'])
def test_pretrained_start(tmp_path, style, caplog):
    plain = _plain_checkpoint()
    head = torch.zeros(5, 16)
    if style == 'timm':
        checkpoint = {**_timm_names(plain), 'head.weight': head}
        head_key = 'head.weight'
    else:
        head_key = 'head.layers.head.weight'
        checkpoint = dict(
            meta=dict(epoch=1),
            state_dict={**{f'backbone.{k}': v for k, v in plain.items()}, head_key: head},
        )
    file = tmp_path / 'vit.pth'
    torch.save(checkpoint, file)
    vit = _vit(init_cfg=dict(type='Pretrained', checkpoint=str(file)))
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)  # it does not propagate
    vit.init_weights()
    logger.removeHandler(caplog.handler)
    assert torch.equal(vit.cls_token, plain['cls_token'].repeat(1, 5, 1))
    assert torch.equal(vit.pos_embed[:, 2:5], plain['pos_embed'][:, :1].repeat(1, 3, 1))
    assert torch.equal(vit.pos_embed[:, 5:], plain['pos_embed'][:, 1:])
    registers = vit.pos_embed[:, :2]
    assert registers.std() > 0.5  # truncated normal of std 1, not the 0.2 above
    for key in (
        'layers.2.ffn.layers.0.0.weight',
        'layers.0.attn.qkv.bias',
        'ln1.weight',
        'patch_embed.projection.weight',
    ):
        assert torch.equal(vit.state_dict()[key], plain[key])
    assert head_key in caplog.text  # what was not loaded is logged


def test_pretrained_positions_are_resized():
    vit = _vit()
    plain = _plain_checkpoint(grid=6)
    result = convert_plain_vit(plain, vit.state_dict(), 2, (4, 4))
    expected = F.interpolate(
        plain['pos_embed'][:, 1:].transpose(1, 2).reshape(1, 16, 6, 6),
        size=(4, 4),
        mode='bicubic',
        align_corners=False,
    )
    assert_close(result.state_dict['pos_embed'][:, 5:], expected.flatten(2).transpose(1, 2))
    assert result.dropped == []


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda s: s.pop('cls_token'), "no 'cls_token'"),
        (lambda s: s.update(cls_token=torch.zeros(1, 24, 16)), 'one class token'),
        (lambda s: s.update(pos_embed=torch.zeros(1, 12, 16)), 'square'),
        (lambda s: s.update({'ln1.weight': torch.zeros(8)}), 'ln1.weight'),
    ],
)
def test_unfit_pretrained_checkpoint(edit, message):
    state = dict(_plain_checkpoint())
    edit(state)
    with pytest.raises(ValueError, match=message):
        convert_plain_vit(state, _vit().state_dict(), 2, (4, 4))


def test_missing_pretrained_file():
    vit = _vit(init_cfg=dict(type='Pretrained', checkpoint='/nowhere/vit.pth'))
    with pytest.raises(FileNotFoundError, match='/nowhere/vit.pth'):
        vit.init_weights()


def test_unknown_init_cfg():
    with pytest.raises(ValueError, match='Pretrained'):
        _vit(init_cfg=dict(type='Xavier')).init_weights()


# --------------------------------------------------- official checkpoints
def test_official_wrappers():
    state = {
        'module.classifier.weight': torch.ones(2, 4, 1, 1),
        'module.graph_layer._fc1.0.bias': torch.zeros(4),
        'module.encoder.head.bias': torch.zeros(6),
        'module.encoder.blocks.3.mlp.fc2.weight': torch.zeros(1),
    }
    converted = convert_official({'model_state_dict': state, 'iter': 7})
    assert set(converted) == {'classifier.weight', 'backbone.layers.3.ffn.layers.1.weight'}


@pytest.mark.parametrize('checkpoint', [{}, {'a': 1}, {'state_dict': {}}])
def test_no_state_dict(checkpoint):
    with pytest.raises(ValueError, match='no state dict'):
        unwrap_state_dict(checkpoint)


def test_not_an_official_state_dict():
    with pytest.raises(ValueError, match='conv1.weight'):
        convert_official({'conv1.weight': torch.zeros(1)})


# ------------------------------------------------- in MMSegmentation's models
@pytest.mark.parametrize(
    'out_indices', [-1, 3, [1, 3], (-3, -1), (3, 0)], ids=lambda value: str(value)
)
def test_feature_maps_are_those_of_mmpretrain(out_indices):
    indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
    plain = _randomize(
        VisionTransformer(
            ARCH, img_size=32, patch_size=8, out_type='featmap', out_indices=indices
        )
    )
    ours = _vit(num_classes=1, num_registers=0, out_indices=out_indices)
    ours.load_state_dict(plain.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    maps, expected = ours(images), plain(images)
    assert type(maps) is tuple and len(maps) == len(expected)
    for found, other in zip(maps, expected):
        assert found.shape == (2, 16, 4, 4)
        # another order of the sums in the attention
        assert_close(found, other, rtol=1e-4, atol=1e-5)


def test_last_feature_map_is_what_more_reads():
    vit, features = _randomize(_vit()), _randomize(_vit(out_indices=(-3, -1)))
    images = torch.randn(2, 3, 35, 50)
    tokens = vit(images)
    aux, last = features(images)
    assert torch.equal(last, tokens.patches) and torch.equal(aux, tokens.aux_patches)


@pytest.mark.parametrize('out_indices', [4, -5, [], [0, 4]])
def test_impossible_out_indices(out_indices):
    with pytest.raises(ValueError, match='out_indices must name some of the 4 blocks'):
        _vit(out_indices=out_indices)


def test_out_indices_of_a_caller_stay():
    indices = [-1, 0]
    _vit(out_indices=indices)
    assert indices == [-1, 0]


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_layer_depths_are_those_of_mmpretrain(prefix):
    plain, ours = VisionTransformer(ARCH, img_size=32, patch_size=8), _vit()
    for name, _ in ours.named_parameters():
        depth = ours.get_layer_depth(prefix + name, prefix)
        assert depth == plain.get_layer_depth(prefix + name, prefix), name
    assert ours.get_layer_depth('decode_head.conv_seg.bias', 'backbone.') == (5, 6)


def test_backbone_of_an_encoder_decoder():
    """It trains a step, and predicts at a size that is no multiple of a patch."""
    model = stock_model.build()
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = model.train_step(stock_model.batch(), optim_wrapper)
    assert losses['decode.loss_ce'] > 0
    unchanged = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert unchanged == []
    model.eval()
    (sample,) = model.test_step(stock_model.batch(1, size=(43, 61)))
    assert sample.pred_sem_seg.data.shape == (1, 43, 61)


def test_pretrained_of_an_encoder_decoder(tmp_path):
    plain = VisionTransformer(stock_model.CONFIG.backbone.arch, img_size=64, patch_size=8)
    torch.save(_randomize(plain).state_dict(), tmp_path / 'vit.pth')
    model = stock_model.build(pretrained=str(tmp_path / 'vit.pth'))
    assert torch.equal(model.backbone.ln1.weight, plain.ln1.weight)
    with pytest.raises(ValueError, match='pretrained or init_cfg, not both'):
        _vit(pretrained='vit.pth', init_cfg=dict(type='Pretrained', checkpoint='a.pth'))


def test_more_reads_tokens():
    backbone = dict(tiny_config().backbone, out_indices=-1)
    with pytest.raises(ValueError, match='leave out backbone.out_indices'):
        tiny_model(backbone=backbone)
