from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from scripts import load_script

from mmseg.registry import MODELS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    return load_script(ROOT / 'tools' / 'analysis' / 'pretrain_shapes.py')


@pytest.fixture(scope='module')
def weights(tool, tmp_path_factory):
    out = tmp_path_factory.mktemp('pretrain') / 'vit.pth'
    small = ['--iterations', '3', '--batch-size', '2', '--workers', '0']
    tool.main([str(out), *small])
    return out


def test_no_class_of_the_demo_is_drawn(tool):
    demo = set(tool.DEMO.classes)
    assert len(demo) == 6 and len(tool.OTHERS.categories) == 14
    assert not demo & set(tool.OTHERS.classes)
    assert not {c.texture for c in tool.DEMO.categories} & {
        c.texture for c in tool.OTHERS.categories
    }


def test_labels_are_the_shown_categories(tool):
    scenes = tool.Scenes(tool.OTHERS, 96, seed=1, length=20)
    assert len(scenes) == 20
    for index in range(5):
        image, labels = scenes[index]
        assert image.shape == (3, 96, 96) and image.dtype == torch.uint8
        assert labels.shape == (14,) and 1 <= labels.sum() <= 3


def test_the_file_starts_the_demo(tool, weights):
    """All of it is loaded, and nothing that a plain ViT has is missing."""
    state = torch.load(weights)['state_dict']
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert weights.stat().st_size < 3e6
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / 'configs/more/more_vit-t_shapes.py')
    cfg.model.pretrained = str(weights)
    model = MODELS.build(cfg.model)
    model.init_weights()
    own = model.backbone.state_dict()
    for name, value in state.items():
        if name not in ('cls_token', 'pos_embed'):
            torch.testing.assert_close(own[name], value.float(), rtol=0, atol=0)
    assert set(own) == set(state)


def test_it_learns(tool):
    """The weights of the backbone move, by both heads."""
    args = tool.parse_args(['x.pth', '--iterations', '2', '--batch-size', '2'])
    args.workers = 0
    backbone = Config.fromfile(ROOT / 'configs/more/more_vit-t_shapes.py').model.backbone
    first, second = (tool.train(args, backbone).state_dict() for _ in range(2))
    args.iterations = 4
    longer = tool.train(args, backbone).state_dict()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0)
    changed = [name for name, value in first.items() if not value.equal(longer[name])]
    assert set(changed) == set(first)


@pytest.mark.parametrize('arguments', [['--iterations', '0'], ['--batch-size', '-1']])
def test_bad_arguments(tool, tmp_path, arguments):
    with pytest.raises(SystemExit):
        tool.main([str(tmp_path / 'vit.pth'), *arguments])
    assert not list(tmp_path.iterdir())
