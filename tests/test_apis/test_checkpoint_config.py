"""A config out of a checkpoint: data of a MoRe, and nothing that runs."""

import sys

import pytest
import torch
from mmengine.config import Config

from golden import Golden, model_config
from mmseg_more.apis import MoReInferencer
from mmseg_more.apis.checkpoint_config import checkpoint_config, parse_config_text
from mmseg_more.checkpoints import convert_official

GOLDEN = Golden('inference')
REMEDY = r'Give the config file as well.*MoReInferencer\(CONFIG, WEIGHTS\)'


@pytest.fixture
def settings():
    return model_config(GOLDEN.meta).to_dict()


def read(settings):
    """What is read of a checkpoint that holds these settings."""
    # not laid out, which takes most of the time
    text = Config(settings, format_python_code=False).pretty_text
    return checkpoint_config(dict(meta=dict(cfg=text)))


@pytest.mark.parametrize('name', ['more_vit-b_voc', 'more_vit-b_coco', 'more_vit-t_shapes'])
def test_shipped_configs_come_back_as_they_were(repo_root, name):
    cfg = Config.fromfile(repo_root / 'configs' / 'more' / f'{name}.py')
    assert parse_config_text(cfg.pretty_text) == cfg.to_dict()
    kept = checkpoint_config(dict(meta=dict(cfg=cfg.pretty_text)))
    backbone = dict(cfg.model.backbone)
    backbone.pop('init_cfg', None)
    assert kept.model.backbone == backbone and kept.model.losses == cfg.model.losses
    assert kept.test_pipeline == cfg.test_dataloader.dataset.pipeline
    assert kept.test_evaluator == cfg.test_evaluator
    assert kept.test_dataloader.dataset.type == cfg.test_dataloader.dataset.type
    assert set(kept) == {'model', 'test_pipeline', 'test_dataloader', 'test_evaluator'}


def test_values_of_every_kind():
    text = "a = {'x y': -1.5, 2: (None, True)}\nb = dict(c=[1, ()], d='é', e={3})\n"
    assert parse_config_text(text) == dict(
        a={'x y': -1.5, 2: (None, True)}, b=dict(c=[1, ()], d='é', e={3})
    )


@pytest.mark.parametrize(
    'line',
    [
        "a = __import__('os').system('false')",
        'a = dict(b=[dict(c=open("ran", "w"))])',
        'a = (lambda: 1)()',
        'a = [b for b in (1, 2)]',
        'a = dict(**{})',
        'a = dict([(1, 2)])',
        'a = {**{}}',
        "a = f'{1}'",
        'a = b',
        'a = ().__class__',
        'a.b = 1',
        'a = b = 1',
        'a: int = 1',
        'import os',
        'def f(): pass',
        'print(1)',
        'with read_base(): pass',
    ],
)
def test_more_than_data_is_refused(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f'more than data .line 2: .*{REMEDY}'):
        parse_config_text(f'model = 1\n{line}\n')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'text', ['a = ', 'a = "\0"', 'a = ' + '[' * 5000, f'a = {"-" * 10000}1', 'a = {[]: 1}']
)
def test_what_cannot_be_parsed(text):
    with pytest.raises(ValueError, match=f'(cannot be read|more than data).*{REMEDY}'):
        parse_config_text(text)


@pytest.mark.parametrize('scope', ['mmseg', 'mmseg_more'])
def test_scope_of_a_base_from_another_package(settings, scope):
    """As MMEngine notes it for ``_base_ = 'mmseg_more::...'``."""
    settings['model']['_scope_'] = scope
    settings['test_dataloader']['dataset']['_scope_'] = scope
    assert read(settings).model._scope_ == scope


HOSTILE = [
    ('model.type', 'os.system'),
    ('model.data_preprocessor.type', 'subprocess.run'),
    ('model.backbone.type', 'builtins.exec'),
    ('model.backbone.type', 'TIMMBackbone'),  # loads files of its own
    ('model.decode_head.type', 'antigravity'),  # would be imported
    ('model.decode_head._scope_', 'mmdet'),
    ('model.losses.cre.type', 'mmseg_more.models.ConfidentRelationLoss'),
    ('test_dataloader.dataset.type', 'os.system'),
    ('test_dataloader.dataset.type', 'RepeatDataset'),
    ('test_dataloader.dataset.pipeline', [dict(type='LoadBiomedicalImageFromFile')]),
    ('test_dataloader.dataset.pipeline', [dict(type=['LoadImageFromFile'])]),
    (
        'test_dataloader.dataset.pipeline',
        [dict(type='TestTimeAug', transforms=[[dict(type='os.system', command='')]])],
    ),
    ('test_pipeline', [dict(type='LoadImageFromFile'), dict(type='builtins.exec')]),
]


@pytest.mark.parametrize('key, value', HOSTILE)
def test_what_could_build_anything_is_refused(settings, key, value):
    assert read(settings).model.type == 'MoRe'
    part = settings
    *path, last = key.split('.')
    for name in path:
        part = part[name]
    part[last] = value
    with pytest.raises(ValueError, match=REMEDY):
        read(settings)
    assert 'antigravity' not in sys.modules


def test_imports_and_starts_are_left_out(settings):
    settings['custom_imports'] = dict(imports=['antigravity'])
    settings['model']['pretrained'] = 'nowhere.pth'
    settings['model']['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='x')
    kept = read(settings)
    assert 'custom_imports' not in kept and 'antigravity' not in sys.modules
    assert 'pretrained' not in kept.model and 'init_cfg' not in kept.model.backbone


@pytest.mark.parametrize(
    'checkpoint',
    [{}, [], dict(meta=3), dict(meta=dict(cfg=3)), dict(message_hub=dict(runtime_info=[]))],
)
def test_no_config(checkpoint):
    with pytest.raises(ValueError, match=f'holds no config. {REMEDY}'):
        checkpoint_config(checkpoint)


@pytest.mark.parametrize('place', ['message_hub', 'meta'])
def test_the_inferencer_runs_nothing(settings, tmp_path, place):
    """As MMEngine's own inferencer reads it, the text would make a file."""
    ran = tmp_path / 'ran'
    text = f'{Config(settings).pretty_text}\nx = open({str(ran)!r}, "w")\n'
    checkpoint = dict(
        state_dict=convert_official(GOLDEN.group('sd.')),
        meta=dict(cfg=text if place == 'meta' else ''),
    )
    if place == 'message_hub':
        checkpoint['message_hub'] = dict(runtime_info=dict(cfg=text))
    torch.save(checkpoint, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=f'more than data .*open.*{REMEDY}'):
        MoReInferencer(weights=str(tmp_path / 'a.pth'), device='cpu')
    assert not ran.exists()
