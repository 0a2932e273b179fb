"""tools/model_converters: official and plain ViT checkpoint files."""

import argparse
import os

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmpretrain.models import VisionTransformer  # after mmseg_more: see its compat.py
from torch.testing import assert_close

from golden import Golden, build_model, model_config, normalize
from mmseg_more.apis.model_conversion import (
    class_names,
    convert_official_checkpoint,
    read_checkpoint,
)
from mmseg_more.datasets import COCO14ImageLevelDataset, VOCImageLevelDataset
from scripts import load_script

from mmseg.apis import init_model
from mmseg.registry import MODELS

GOLDEN = Golden('inference')


@pytest.fixture
def tool(repo_root):

    def run(name, *arguments):
        path = repo_root / 'tools' / 'model_converters' / f'{name}.py'
        module = load_script(path)
        return module.main([str(argument) for argument in arguments])

    return run


@pytest.fixture
def official():
    return GOLDEN.group('sd.')


WRAPPERS = dict(
    plain=lambda state: state,
    ddp=lambda state: {f'module.{k}': v for k, v in state.items()},
    coco=lambda state: dict(
        iter=80000,
        optimizer=dict(state={}),
        model_state_dict={f'module.{k}': v for k, v in state.items()},
    ),
)


@pytest.mark.parametrize('wrap', WRAPPERS.values(), ids=WRAPPERS)
def test_round_trip_of_a_file(tool, official, tmp_path, capsys, wrap):
    torch.save(wrap(official), tmp_path / 'official.pth')
    assert tool('official2mmseg', tmp_path / 'official.pth', tmp_path / 'ours.pth') == 0
    assert sorted(os.listdir(tmp_path)) == ['official.pth', 'ours.pth']

    model = init_model(model_config(GOLDEN.meta), str(tmp_path / 'ours.pth'), 'cpu')
    assert list(model.dataset_meta['classes']) == list(
        VOCImageLevelDataset.METAINFO['classes']
    )
    assert len(model.dataset_meta['palette']) == 21
    load_checkpoint(model, str(tmp_path / 'ours.pth'), strict=True)
    with torch.no_grad():
        assert_close(
            model._forward(normalize(GOLDEN['image_u8'])),
            GOLDEN['segs'],
            rtol=1e-5,
            atol=1e-5,
        )

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    sources = [line[0] for line in lines if line and line[0] in official]
    assert sorted(sources) == sorted(official)  # every key once
    assert [
        'decoder.conv6.weight',
        '->',
        'decode_head.conv1.conv.weight',
        '(32,',
        '32,',
        '3,',
        '3)',
    ] in lines
    assert ['left', 'out:', '4'] in lines and ['missing:', '0'] in lines


def test_report_says_which_model(official):
    _, report = convert_official_checkpoint(official)
    assert report.problems() == []
    assert 'MoRe of 20 classes: ViT of 4 blocks and 32 channels' in report.model
    assert 'patches of 8, positions of 64 pixels, 4 registers' in report.model


def test_dry_run_writes_nothing(tool, official, tmp_path):
    torch.save(official, tmp_path / 'a.pth')
    assert tool('official2mmseg', tmp_path / 'a.pth', tmp_path / 'b.pth', '--dry-run') == 0
    assert os.listdir(tmp_path) == ['a.pth']


def _three_classes():
    """A checkpoint of the official layout with K = 3."""
    cfg = model_config(dict(GOLDEN.meta, K=3))
    ours = MODELS.build(cfg.model).state_dict()
    back = {
        record.target: record.source
        for record in convert_official_checkpoint(GOLDEN.group('sd.'))[0].records
    }
    return {back[name]: value for name, value in ours.items()}


def test_classes_of_another_data_set(tool, tmp_path, mistake_of):
    torch.save(_three_classes(), tmp_path / 'a.pth')
    arguments = ('official2mmseg', tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert 'has 3 foreground classes, neither' in mistake_of(tool, *arguments)
    assert 'coco has 80' in mistake_of(tool, *arguments, '--dataset', 'coco')
    assert '2 different names' in mistake_of(tool, *arguments, '--classes', 'cat', 'dog')
    assert os.listdir(tmp_path) == ['a.pth']

    (tmp_path / 'names.txt').write_text('background\ncat\ndog\n\nhorse\n')
    for names in (['cat', 'dog', 'horse'], [tmp_path / 'names.txt']):
        assert tool(*arguments, '--classes', *names) == 0
        meta = torch.load(tmp_path / 'b.pth', weights_only=True)['meta']
        assert meta['dataset_meta'] == dict(
            classes=['background', 'cat', 'dog', 'horse'],
            palette=[[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]],
        )


def test_class_lists_of_other_editors(tool, tmp_path, mistake_of):
    """A byte order mark is no part of a name; other encodings name the file."""
    torch.save(_three_classes(), tmp_path / 'a.pth')
    names = tmp_path / 'names.txt'
    arguments = ('official2mmseg', tmp_path / 'a.pth', tmp_path / 'b.pth', '--classes')
    names.write_text('background\ncat\ndog\nhorse\n', encoding='utf-8-sig')
    assert tool(*arguments, names) == 0
    meta = torch.load(tmp_path / 'b.pth', weights_only=True)['meta']
    assert meta['dataset_meta']['classes'] == ['background', 'cat', 'dog', 'horse']
    names.write_text('cat\ndog\nchâtaigne\n', encoding='latin-1')
    assert 'names.txt is not text in UTF-8' in mistake_of(tool, *arguments, names)


def test_eighty_classes_are_coco():
    assert class_names(80)['classes'] == list(COCO14ImageLevelDataset.METAINFO['classes'])
    assert class_names(80, 'coco') == class_names(80)


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda s: s.update({'conv1.weight': torch.zeros(1)}), 'conv1.weight'),
        (lambda s: s.pop('classifier.weight'), 'nothing in it becomes classifier.weight'),
        (
            lambda s: s.pop('encoder.blocks.2.norm1.bias'),
            'backbone.layers.2.ln1.bias is missing',
        ),
        (
            lambda s: s.update({'encoder.blocks.2.extra': torch.zeros(1)}),
            'backbone.layers.2.extra has no place in the model',
        ),
        (
            lambda s: s.update({'decoder.conv8.weight': torch.zeros(9, 32, 1, 1)}),
            r'decode_head.conv_seg.weight is (9, 32, 1, 1), the model needs (21, 32, 1, 1)',
        ),
        (
            lambda s: s.update({'encoder.cls_token': torch.zeros(1, 3, 32)}),
            'do not fit 20 classes',
        ),
    ],
)
def test_wrong_keys(tool, official, tmp_path, mistake_of, edit, message):
    edit(official)
    torch.save(official, tmp_path / 'a.pth')
    assert message in mistake_of(
        tool, 'official2mmseg', tmp_path / 'a.pth', tmp_path / 'b.pth'
    )
    assert os.listdir(tmp_path) == ['a.pth']


def test_wrong_files(tool, tmp_path, mistake_of):
    arguments = ('official2mmseg', tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert 'a.pth does not exist' in mistake_of(tool, *arguments)
    (tmp_path / 'a.pth').write_bytes(b'PK no checkpoint')
    assert 'a.pth' in mistake_of(tool, *arguments)
    torch.save(dict(a=1), tmp_path / 'a.pth')
    assert 'holds no state dict' in mistake_of(tool, *arguments)
    # an object whose unpickling could run anything
    torch.save(dict(args=argparse.Namespace(lr=1)), tmp_path / 'a.pth')
    message = mistake_of(tool, *arguments)
    assert 'a.pth holds more than weights (an object of argparse.Namespace)' in message
    assert os.listdir(tmp_path) == ['a.pth']


def test_truncated_file(official, tmp_path):
    torch.save(official, tmp_path / 'a.pth')
    content = (tmp_path / 'a.pth').read_bytes()
    (tmp_path / 'a.pth').write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match='a.pth does not read as a PyTorch checkpoint'):
        read_checkpoint(str(tmp_path / 'a.pth'))


def test_source_is_never_overwritten(tool, official, tmp_path, capsys):
    torch.save(official, tmp_path / 'a.pth')
    with pytest.raises(SystemExit):
        tool('official2mmseg', tmp_path / 'a.pth', tmp_path / '.' / 'a.pth')
    assert 'same file' in capsys.readouterr().err


# ------------------------------------------------------------------------- plain ViTs
@pytest.fixture
def config(tmp_path):
    cfg = model_config(GOLDEN.meta)
    cfg.dump(tmp_path / 'config.py')
    return tmp_path / 'config.py'


def _plain_vit(**kwargs):
    arch = dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=128)
    vit = VisionTransformer(dict(arch, **kwargs), img_size=64, patch_size=8)
    return {f'backbone.{k}': v for k, v in vit.state_dict().items()}


def test_start_from_a_plain_vit(tool, config, tmp_path, capsys):
    vit = _plain_vit()
    torch.save(dict(state_dict={**vit, 'head.bias': torch.zeros(1)}), tmp_path / 'vit.pth')
    assert tool('vit2more', tmp_path / 'vit.pth', config) == 0  # the report alone
    assert sorted(os.listdir(tmp_path)) == ['config.py', 'vit.pth']
    report = capsys.readouterr().out.splitlines()
    for key in (*vit, 'head.bias'):
        assert sum(line.split()[:1] == [key] for line in report) == 1
    assert any('repeated for 24 tokens' in line for line in report)
    assert any('head.bias' in line and 'outside of the backbone' in line for line in report)

    starts = []
    for seed in (0, 0, 1):
        assert (
            tool(
                'vit2more',
                tmp_path / 'vit.pth',
                config,
                tmp_path / 'start.pth',
                '--seed',
                seed,
            )
            == 0
        )
        starts.append(torch.load(tmp_path / 'start.pth', weights_only=True)['state_dict'])
    registers = [start['backbone.pos_embed'][:, :4] for start in starts]
    assert torch.equal(registers[0], registers[1])
    assert not torch.equal(registers[0], registers[2])
    model = build_model(GOLDEN)
    load_checkpoint(model, str(tmp_path / 'start.pth'))
    assert torch.equal(
        model.backbone.layers[3].attn.qkv.weight, vit['backbone.layers.3.attn.qkv.weight']
    )


@pytest.mark.parametrize('num_classes', [6, 1])
def test_start_has_as_many_tokens_as_the_model_has_classes(tool, tmp_path, num_classes):
    """Where the config says so once, in ``model.num_classes``."""
    cfg = model_config(dict(GOLDEN.meta, K=num_classes))
    del cfg.model.backbone['num_classes']
    cfg.dump(tmp_path / 'config.py')
    torch.save(_plain_vit(), tmp_path / 'vit.pth')
    start = tmp_path / 'start.pth'
    assert tool('vit2more', tmp_path / 'vit.pth', tmp_path / 'config.py', start) == 0
    weights = torch.load(start, weights_only=True)['state_dict']
    backbone = MODELS.build(cfg.model).backbone
    assert backbone.num_classes == num_classes
    backbone.load_state_dict(
        {name.replace('backbone.', '', 1): value for name, value in weights.items()}
    )


def test_plain_vit_of_another_size(tool, config, tmp_path, mistake_of):
    torch.save(_plain_vit(feedforward_channels=64), tmp_path / 'vit.pth')
    assert 'has shape (64, 32)' in mistake_of(
        tool, 'vit2more', tmp_path / 'vit.pth', config, tmp_path / 'b.pth'
    )
    assert not (tmp_path / 'b.pth').exists()


def test_vit_into_a_config_of_another_model(tool, repo_root, tmp_path, mistake_of):
    config = repo_root / 'configs' / 'two_stage' / 'segformer_b0_shapes.py'
    message = mistake_of(tool, 'vit2more', tmp_path / 'vit.pth', config)
    assert 'is a config of EncoderDecoder' in message
