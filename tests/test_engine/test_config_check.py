"""Misspelled config keys."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_more.engine.config_check import check_config, check_option

import mmseg


@pytest.mark.parametrize(
    'typed, meant',
    [
        ('train_cgf', 'train_cfg'),
        ('mdoel', 'model'),
        ('custom_hook', 'custom_hooks'),
        ('optim_wraper', 'optim_wrapper'),
        ('param_schedulers', 'param_scheduler'),
        ('val_evalutor', 'val_evaluator'),
        ('resum', 'resume'),
    ],
)
def test_top_level_typo(typed, meant):
    with pytest.raises(ValueError, match=f"'{typed}' is not known, did you mean '{meant}'"):
        check_config({'model': dict(type='MoRe'), typed: dict()})


@pytest.mark.parametrize(
    'name',
    [
        'crop_size',
        'train_pipeline',
        'test_pipeline',
        'val_pipeline',
        'tta_pipeline',
        'data_root',
        'dataset_type',
        'norm_cfg',
        'num_classes',
        'aux_dataloader',
        'teacher_model',
        '_model',
    ],
)
def test_own_variables_are_allowed(name):
    check_config({'model': dict(type='MoRe'), name: 1})


@pytest.mark.parametrize(
    'option, message',
    [
        ('env_cfg.cudnn_benchmrk', "did you mean 'cudnn_benchmark'"),
        ('env_cfg.anything', 'known here: cudnn_benchmark'),
        ('auto_scale_lr.enabled', "did you mean 'enable'"),
        ('optim_wrapper.paramwise_cfg.norm_decay_mul', "did you mean 'norm_decay_mult'"),
        ('optim_wrapper.paramwise_cfg.custom_keys.head.lr_mul', "did you mean 'lr_mult'"),
    ],
)
def test_typo_in_a_dict_that_is_looked_up(option, message):
    cfg = Config(dict(model=dict(type='MoRe')))
    cfg.merge_from_dict({option: 10})
    with pytest.raises(ValueError, match=message) as error:
        check_config(cfg)
    assert option.split('.')[-1] in str(error.value)


def test_own_constructor_has_the_keys_of_mmengine():
    with pytest.raises(ValueError, match="did you mean 'custom_keys'"):
        check_config(
            dict(
                optim_wrapper=dict(
                    constructor='MergedOptimWrapperConstructor',
                    paramwise_cfg=dict(costum_keys=dict()),
                )
            )
        )


def test_another_constructor_has_keys_of_its_own():
    check_config(
        dict(
            optim_wrapper=dict(
                constructor='LayerDecayOptimizerConstructor',
                paramwise_cfg=dict(num_layers=12, decay_rate=0.9, custom_keys=dict(a=None)),
            )
        )
    )


@pytest.mark.parametrize(
    'cfg',
    [
        dict(),
        dict(optim_wrapper=None, env_cfg=None, auto_scale_lr=None),
        dict(optim_wrapper=dict(paramwise_cfg=None)),
        dict(optim_wrapper=dict(paramwise_cfg=dict(custom_keys=None))),
    ],
)
def test_absent_sections(cfg):
    check_config(cfg)


@pytest.mark.slow
def test_configs_that_exist_are_accepted(repo_root):
    """This package's and a selection of MMSegmentation's."""
    others = sorted(Path(mmseg.__path__[0], '.mim', 'configs').glob('*/*.py'))[::60]
    own = sorted((repo_root / 'configs').rglob('*.py'))
    assert own and others
    for path in own + others:
        check_config(Config.fromfile(path, import_custom_modules=False))


OPTIONS = Config(
    dict(
        max_iters=300,
        crop_size=(1, 1),
        train_cfg=dict(max_iters=300),
        param_scheduler=[dict(end=300)],
        train_dataloader=dict(dataset=dict(pipeline=[dict(scale=(1, 1))])),
        train_pipeline=[dict(scale=(1, 1))],
    )
)


@pytest.mark.parametrize(
    'option, message',
    [
        ('max_iters', 'a variable of the config file, .* did you mean train_cfg.max_iters'),
        ('crop_size', 'a variable of the config file, .* was read$'),
        ('train_pipeline.0.scale', "'train_pipeline' is a variable of the config file"),
        ('batch_sise', "'batch_sise' is no key of the config$"),
        ('end', 'is no key of the config; did you mean param_scheduler.0.end'),
        ('scale', 'did you mean train_dataloader.dataset.pipeline.0.scale'),
        ('a..b', "'a' is no key of the config$"),
    ],
)
def test_an_option_without_effect(option, message):
    with pytest.raises(ValueError, match=f'--cfg-options {option}: .*{message}'):
        check_option(OPTIONS, option)


@pytest.mark.parametrize(
    'option',
    ['train_cfg.max_iters', 'resume', 'visualizer.name', 'tta_model.a', '_mine.a', 'model'],
)
def test_an_option_with_an_effect(option):
    check_option(OPTIONS, option)
