"""Configs in MMEngine's new style: over a shipped one, and with classes for names."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import mmengine.config.config
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from golden import ROOT
from mask_run import config, make_data, make_masks
from mmseg_more.apis import MoReInferencer
from mmseg_more.engine.config_check import check_config
from mmseg_more.engine.launch import load_config
from mmseg_more.engine.optim import enable_amp
from mmseg_more.evaluation.calibration import use_calibration
from mmseg_more.evaluation.protocols import use_protocols
from mmseg_more.evaluation.reliability import use_reliability
from mmseg_more.masks import use_pseudo_labels
from scripts import load_script
from test_docs import blocks
from test_package import build, copy_of_checkout

import mmseg
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS

LOSSES = """
from mmseg_more.models.losses import ConfidentRelationLoss

class MyLoss(ConfidentRelationLoss):
    pass
"""


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The example of docs/questions.md; MMEngine finds this checkout as the package."""
    (tmp_path / 'mmseg_more').mkdir()
    (tmp_path / 'mmseg_more/.mim').symlink_to(ROOT)
    package = str(tmp_path / 'mmseg_more')
    monkeypatch.setattr(mmengine.config.config, 'get_installed_path', lambda name: package)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'my_losses', raising=False)
    (tmp_path / 'my_losses.py').write_text(LOSSES)
    (text,) = [
        block
        for block in blocks(ROOT / 'docs/questions.md', 'python')
        if 'globals().update' in block
    ]
    return text


def test_example_differs_in_what_it_says_alone(example, tmp_path):
    (tmp_path / 'mine.py').write_text(example)
    mine = load_config(str(tmp_path / 'mine.py'))
    shipped = Config.fromfile(ROOT / 'configs/more/more_vit-b_voc.py')
    loss = mine.model.losses.cre
    assert loss.pop('type').__name__ == 'MyLoss' and loss == dict(loss_weight=0.2)
    assert mine.train_cfg.max_iters == 30000
    mine.train_cfg.max_iters = shipped.train_cfg.max_iters
    mine.model.losses.cre = shipped.model.losses.cre
    assert without_scope({key: mine[key] for key in shipped}) == shipped.to_dict()


def test_example_is_the_base_of_another(example, tmp_path):
    (tmp_path / 'mine.py').write_text(example)
    (tmp_path / 'child.py').write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n'
        '    from .mine import *\n'
        "model['losses']['cre'].update(loss_weight=0.3)\n"
    )
    mine, child = (load_config(str(tmp_path / f'{name}.py')) for name in ('mine', 'child'))
    assert child.model.losses.cre.loss_weight == 0.3
    child.model.losses.cre.loss_weight = mine.model.losses.cre.loss_weight
    assert child.model.to_dict() == mine.model.to_dict()
    assert child.train_dataloader == mine.train_dataloader


def without_scope(value):
    """MMEngine notes in what comes from a package that it does."""
    if isinstance(value, dict):
        return {k: without_scope(v) for k, v in value.items() if k != '_scope_'}
    if isinstance(value, (list, tuple)):
        return type(value)(without_scope(item) for item in value)
    return value


@pytest.fixture
def small(example, tmp_path, monkeypatch):
    """The example over a config of milliseconds; every image has a mask."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        data = make_data(tmp_path / 'data')
        cfg = config(data)
    make_masks(data)
    for split in ('val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.test_mode, dataset.data_prefix.seg_map_path = True, 'masks'
    cfg.train_cfg.val_interval = cfg.default_hooks.checkpoint.interval = 2
    cfg.dump(tmp_path / 'base.py')
    shipped = 'mmseg_more::more/more_vit-b_voc.py'
    assert shipped in example and '30000' in example
    text = example.replace(shipped, f'{tmp_path}/base.py').replace('30000', '2')
    # Runners of one name and second share MMEngine's message hub: the name is the folder's
    path = tmp_path / f'{tmp_path.name}.py'
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    # laying out the text of the configs for the log takes most of the time
    monkeypatch.setattr(
        mmengine.config.config, 'FormatCode', lambda text, **options: (text, False)
    )
    return path


@pytest.mark.slow
@pytest.mark.parametrize('tools', ['package', 'mmseg'])
def test_example_trains_and_tests(small, tools, monkeypatch):
    """By the tools of this package, and by those that ``mim train mmseg`` runs."""
    folder = ROOT if tools == 'package' else Path(mmseg.__file__).parent / '.mim'

    def run(name, *arguments):
        monkeypatch.setenv('LOCAL_RANK', '0')
        script = folder / 'tools' / f'{name}.py'
        monkeypatch.setattr(sys, 'argv', [str(script), *map(str, arguments)])
        load_script(script).main()

    run('train', small, '--work-dir', 'work')
    checkpoint = small.parent / 'work/iter_2.pth'
    assert checkpoint.is_file()
    run('test', small, checkpoint, '--work-dir', 'tested')
    assert list(small.parent.glob('tested/*/*.json'))

    with pytest.raises(ValueError, match='MyLoss.* Give the config file as well'):
        MoReInferencer(weights=str(checkpoint), device='cpu')
    made = MoReInferencer(str(small), weights=str(checkpoint), device='cpu')
    assert 'MyLoss' in {type(module).__name__ for module in made.model.modules()}


@pytest.mark.slow
def test_example_from_a_wheel(example, tmp_path):
    """In a project of one's own, read by a tool of MMSegmentation."""
    source = copy_of_checkout(ROOT, tmp_path / 'source')
    (wheel,) = build(source, tmp_path, 'build_wheel')
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    config = tmp_path / 'site/mmseg_more/.mim/configs/more/more_vit-b_voc.py'
    config.write_text(f"{config.read_text()}found = 'in the wheel'\n")
    (tmp_path / 'project').mkdir()
    (tmp_path / 'my_losses.py').rename(tmp_path / 'project/my_losses.py')
    (tmp_path / 'project/mine.py').write_text(example)
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'mmseg_more', 'print_config', 'mine.py'],
        cwd=tmp_path / 'project',
        env=dict(os.environ, PYTHONPATH=str(tmp_path / 'site')),
        capture_output=True,
        text=True,
    )
    assert "found = 'in the wheel'" in result.stdout, result.stderr
    assert "type='my_losses.MyLoss'" in result.stdout


def with_classes(value):
    """A config in which ``type`` is a class wherever a registry of mmseg has its name."""
    if isinstance(value, dict):
        value = {key: with_classes(item) for key, item in value.items()}
        name = value.get('type')
        for registry in (MODELS, DATASETS, TRANSFORMS, HOOKS, METRICS, OPTIM_WRAPPERS):
            if isinstance(name, str) and registry.get(name) is not None:
                return {**value, 'type': registry.get(name)}
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(with_classes(item) for item in value)
    return value


@pytest.fixture
def classes(tmp_path):
    """The small config with classes; tests are made of named hooks and metrics anew."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        cfg = config(make_data(tmp_path / 'data'))
        cfg = Config(with_classes(cfg.to_dict()))
        assert not isinstance(cfg.model.type, str)
        assert not isinstance(cfg.optim_wrapper.type, str)
        yield cfg


def same_but_for_classes(cfg, change):
    """Whether ``change`` does to a config with classes what it does to one with names."""
    named = Config(without_classes(cfg.to_dict()))
    change(named)
    change(cfg)
    assert without_classes(cfg.to_dict()) == without_classes(named.to_dict())


def without_classes(value):
    if isinstance(value, dict):
        return {key: without_classes(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_classes(item) for item in value)
    return value.__name__ if isinstance(value, type) else value


def test_misspelled_argument_of_a_class(classes):
    check_config(classes)
    classes.model.backbone.pach_size = 8
    with pytest.raises(ValueError, match="did you mean 'patch_size'"):
        check_config(classes)


@pytest.mark.parametrize(
    'change',
    [
        enable_amp,
        lambda cfg: use_pseudo_labels(cfg, 'masks', split='train'),
        lambda cfg: use_protocols(cfg, 'figures.json'),
        lambda cfg: use_reliability(cfg, 'figures.json'),
        lambda cfg: use_calibration(cfg, 'thresholds.json'),
    ],
    ids=['amp', 'pseudo-labels', 'protocols', 'reliability', 'calibration'],
)
def test_options_read_classes_as_names(classes, change):
    same_but_for_classes(classes, change)


@pytest.mark.parametrize('use', [use_protocols, use_reliability, use_calibration])
def test_test_time_augmentation_is_seen(classes, use):
    classes.model = dict(type=MODELS.get('MoReTTAModel'), module=classes.model)
    with pytest.raises(ValueError, match='--tta'):
        use(classes, 'figures.json')
