"""Shipped models by name: in configs, MMEngine's hub, inferencers and tools."""

import os
import subprocess
import sys
import zipfile

import mmengine.hub.hub
import pytest
import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hub import get_config, get_model
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.utils import get_installed_path, is_installed

import mmseg_more
from mmseg_more.apis import MoReInferencer
from mmseg_more.engine.launch import load_config
from mmseg_more.model_index import add_to_inferencers, shipped_config, shipped_models
from test_package import build, copy_of_checkout

from mmseg.apis import MMSegInferencer

NAME = 'more_vit-t_shapes'
CONFIG = f'mmseg_more::more/{NAME}.py'
NOWHERE = 'no weights of this model are published.* weights=FILE'


@pytest.fixture
def installed(repo_root, tmp_path, monkeypatch):
    """The package as an installation looks, whether this checkout is installed or not."""
    package = tmp_path / 'mmseg_more'
    package.mkdir()
    (package / '.mim').symlink_to(repo_root)
    for module in (mmengine.hub.hub, mmengine.config.config):
        monkeypatch.setattr(module, 'get_installed_path', lambda name: str(package))


def test_every_name_has_a_config():
    models = shipped_models()
    assert {'more_vit-b_voc', 'more_vit-b_coco', NAME} <= set(models)
    assert 'more_vit-b16_1xb4-20k_voc12aug-448x448' in models
    assert all(path.is_file() for path in models.values())
    assert all(path.stem == name for name, path in models.items())


def test_extension_need_not_be_typed():
    assert shipped_config(NAME) == shipped_config(f'{NAME}.py') == shipped_models()[NAME]
    assert shipped_config('more_vit') is None


def test_mmengine_finds_the_package_wherever_it_is():
    name = MODULE2PACKAGE['mmseg_more']
    assert is_installed(name)
    assert get_installed_path(name) == os.path.dirname(mmseg_more.__file__)


def test_base_of_a_config_of_ones_own(installed, tmp_path):
    (tmp_path / 'mine.py').write_text(f'_base_ = {CONFIG!r}\ntrain_cfg = dict(max_iters=3)')
    cfg = load_config(str(tmp_path / 'mine.py'))
    assert cfg.train_cfg.max_iters == 3 and cfg.model.type == 'MoRe'
    assert cfg.model._scope_ == 'mmseg_more'  # MMEngine notes where it is from


@pytest.mark.parametrize(
    'line, meant',
    [
        ('model = dict(num_clases=3)', 'num_classes'),
        ("visualizer = dict(type='ImageLabelVisualiser')", 'ImageLabelVisualizer'),
    ],
)
def test_spelling_in_a_config_of_ones_own(installed, tmp_path, line, meant):
    """Though its parts have another scope."""
    (tmp_path / 'mine.py').write_text(f'_base_ = {CONFIG!r}\n{line}')
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        load_config(str(tmp_path / 'mine.py'))


def test_hub(installed):
    assert get_config(CONFIG).model.type == 'MoRe'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        assert type(get_model(CONFIG)).__name__ == 'MoRe'
        assert DefaultScope.get_current_instance().scope_name == 'mmpretrain'
    with pytest.raises(ValueError, match=NOWHERE):
        get_model(CONFIG, pretrained=True)


def test_scope_has_mmsegs_classes():
    for name in ('MoRe', 'EncoderDecoder'):
        with MODELS.switch_scope_and_registry('mmseg_more') as registry:
            assert registry.scope == 'mmseg_more'
            assert registry.get(name).__name__ == name


def test_config_by_name_in_tools(tmp_path, monkeypatch):
    cfg = load_config(NAME)
    assert cfg.filename == str(shipped_models()[NAME])
    assert cfg.work_dir == f'./work_dirs/{NAME}'
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).write_text('')  # a file of that name, though it is no config
    with pytest.raises(ValueError, match='cannot be read'):
        load_config(NAME)
    with pytest.raises(FileNotFoundError, match='shipped models are .*more_vit-b_voc'):
        load_config('nothing_like_it')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'a.pth'
    cfg = load_config(NAME)
    model = mmseg_more.models.MoRe(**{k: v for k, v in cfg.model.items() if k != 'type'})
    classes = ('background', *'abcdef')
    meta = dict(dataset_meta=dict(classes=classes, palette=[[i] * 3 for i in range(7)]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return str(path)


@pytest.mark.parametrize('inferencer', [MMSegInferencer, MoReInferencer])
def test_inferencers(inferencer, weights):
    made = inferencer(NAME, weights=weights, device='cpu')
    assert type(made.model).__name__ == 'MoRe'
    with pytest.raises(ValueError, match=NOWHERE):
        inferencer(NAME, device='cpu')


def test_names_are_added_once_and_behind_mmsegs():
    add_to_inferencers()
    names = MMSegInferencer.list_models('mmseg')
    assert names[-len(shipped_models()) :] == list(shipped_models())
    assert names.count(NAME) == 1 and len(names) > 100
    assert MMSegInferencer.list_models('mmseg_more') == list(shipped_models())


def test_unpublished_weights():
    with pytest.raises(ValueError, match=NOWHERE):
        CheckpointLoader.load_checkpoint('unpublished://', 'cpu')


FROM_A_WHEEL = """
import site, sys
sys.path.insert(0, sys.argv[1])
site.addsitedir(sys.argv[1])
import mmseg.models
from mmengine.config import Config
from mmengine.hub import get_model
from mmengine.registry import VISUALIZERS
assert 'mmseg_more' not in sys.modules
cfg = Config.fromfile('mine.py')
print(cfg.train_cfg.max_iters, type(VISUALIZERS.build(cfg.visualizer)).__name__)
print(type(get_model('mmseg_more::more/more_vit-t_shapes.py')).__name__)
print(sys.modules['mmseg_more'].__file__)
"""


@pytest.mark.slow
def test_from_a_wheel(repo_root, tmp_path):
    """In a project of one's own, with mmseg imported first."""
    source = copy_of_checkout(repo_root, tmp_path / 'source')
    (wheel,) = build(source, tmp_path, 'build_wheel')
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    (tmp_path / 'mine.py').write_text(f'_base_ = {CONFIG!r}\ntrain_cfg = dict(max_iters=3)')
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', FROM_A_WHEEL, str(tmp_path / 'site')],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
        capture_output=True,
        text=True,
    )
    module = tmp_path / 'site' / 'mmseg_more' / '__init__.py'
    printed = ['3', 'ImageLabelVisualizer', 'MoRe', str(module)]
    assert result.stdout.split()[-4:] == printed, result.stderr
