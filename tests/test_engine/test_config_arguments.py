"""Keys of the parts of a config, at every depth."""

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.optim import PolyLR

from mmseg_more.datasets import ImageLevelDataset, PseudoLabelDataset
from mmseg_more.engine.config_arguments import arguments_of, check_arguments, refuse_unknown
from mmseg_more.models import MoRe


@pytest.fixture
def voc(repo_root):
    return Config.fromfile(repo_root / 'configs/more/more_vit-b_voc.py')


@pytest.mark.parametrize(
    'option, meant',
    [
        ('model.decode_hed.channels', 'decode_head'),
        ('model.pretraind', 'pretrained'),
        ('model.losses.cre.begn', 'begin'),
        ('model.losses.crre.begin', 'cre'),
        ('model.pseudo_label.bkgd', 'bkg'),
        ('model.pseudo_label.par.dilation', 'dilations'),
        ('model.localization.scale', 'scales'),
        ('model.graph.neighbour_ratio', 'neighbor_ratio'),
        ('model.backbone.lora.ranks', 'rank'),
        ('model.text_classifier.frozn', 'frozen'),
        ('train_dataloader.num_worker', 'num_workers'),
        ('train_dataloader.dataset.lable_file', 'label_file'),
        ('train_dataloader.dataset.pipeline.1.crop_ratio_rang', 'crop_ratio_range'),
        # in a list, and in an argument that takes configs of its own
        ('train_dataloader.dataset.pipeline.3.transforms.0.hu', 'hue'),
        ('optim_wrapper.optimizer.lrr', 'lr'),
        ('optim_wrapper.optimizr.lr', 'optimizer'),
        ('optim_wrapper.clip_grad.max_nrom', 'max_norm'),
        ('param_scheduler.0.powr', 'power'),
        ('train_cfg.max_iter', 'max_iters'),
        ('val_evaluator.bkgd', 'bkg'),
        ('default_hooks.chekpoint.interval', 'checkpoint'),
        # MMEngine would ignore it: the hook takes any key
        ('default_hooks.checkpoint.intervl', 'interval'),
        ('default_hooks.localization.map', 'maps'),
        ('visualizer.vis_backend', 'vis_backends'),
        ('randomness.sed', 'seed'),
    ],
)
def test_typo(voc, option, meant):
    voc.merge_from_dict({option: 1})
    with pytest.raises(ValueError) as error:
        check_arguments(voc)
    # the key, without what may lie below it
    assert f"is not known, did you mean '{meant}'?" in str(error.value)
    assert option.startswith(str(error.value).split()[2])


@pytest.mark.parametrize(
    'step',
    [
        # transforms of albumentations, some under names that others have too
        dict(
            type='Albu',
            transforms=[
                dict(type='RandomRotate90', p=0.5),
                dict(type='RandomCrop', height=8, width=8),
                dict(type='CLAHE', clip_limit=2, p=0.1),
            ],
        ),
        dict(type='Mine', mapping={0: 255}),
    ],
)
def test_what_others_look_up(voc, step):
    voc.train_dataloader.dataset.pipeline.append(step)
    check_arguments(voc)


@pytest.mark.parametrize(
    'clip_grad, typo',
    [
        (dict(type='value', clip_value=0.5), 'clip_vlaue'),
        (dict(type='norm', max_norm=0.5, norm_type=2), 'norm_tpye'),
    ],
)
def test_both_ways_to_clip(voc, clip_grad, typo):
    voc.optim_wrapper.clip_grad = clip_grad
    check_arguments(voc)
    voc.optim_wrapper.clip_grad[typo] = 1
    with pytest.raises(ValueError, match=f'clip_grad.{typo} is not known, did you mean'):
        check_arguments(voc)


@pytest.mark.parametrize(
    'option, value, message',
    [
        ('test_evaluator', 'foo', 'test_evaluator must be a dict, or a list of them'),
        ('model', 3, 'model must be a dict, got 3'),
        ('custom_hooks.0.type', 'A', 'custom_hooks must be a list of dicts'),
        ('default_hooks.more', 'foo', 'default_hooks.more is not known, it needs a type'),
        ('model.num_classes', '', "model.num_classes must be of type int, got ''"),
        ('model.backbone', 'foo', "model.backbone must be of type dict, got 'foo'"),
        ('model.pretrained', 3, 'model.pretrained must be of type str or None, got 3'),
        (
            'model.type',
            'MoRee',
            "model.type: 'MoRee' is not registered, did you mean 'MoRe'",
        ),
        (
            'model.graph.colour',
            3,
            'model.graph.colour is not known, known here: embed_dims',
        ),
    ],
)
def test_wrong_value(voc, option, value, message):
    voc.merge_from_dict({option: value})
    with pytest.raises(ValueError, match=message):
        check_arguments(voc)


@pytest.mark.parametrize(
    'option, value',
    [
        ('model.decode_head.norm_cfg', dict(type='BN', requires_grad=True)),  # MMCV's
        ('model.backbone.init_cfg', dict(type='Normal', layer='Linear', std=0.1)),
        ('default_hooks.logger.priority', 'LOW'),
        ('default_hooks.checkpoint.anything_else', 1),  # what it hands on
        ('default_hooks.own', dict(type='RegisteredElsewhere', x=1)),
        ('param_scheduler.0.convert_to_iter_based', True),
        ('val_evaluator', dict(type='mmpretrain.MultiLabelMetric', thr=0.5)),
        ('val_evaluator', dict(type='MultiLabelMetric', _scope_='mmpretrain', thr=0.5)),
        ('val_evaluator', dict(type='not_installed.Metric', thr=0.5)),
        ('model.losses.ure', None),
        ('train_dataloader.dataset.metainfo', dict(classes=('a',), type='anything')),
    ],
)
def test_right_value(voc, option, value):
    voc.merge_from_dict({option: value})
    check_arguments(voc)


def test_a_class_in_place_of_its_name():
    check_arguments(dict(model=dict(type=MoRe, num_classes=3)))
    with pytest.raises(ValueError, match='model.num_clases is not known'):
        check_arguments(dict(model=dict(type=MoRe, num_clases=3)))


def test_arguments_of_bases():
    own, whole = arguments_of(ImageLevelDataset), arguments_of(PseudoLabelDataset)
    assert 'label_file' in own.names and 'data_root' in own.names  # BaseSegDataset's
    assert 'pseudo_dir' in whole.names and own.names <= whole.names
    assert not own.complete  # what kwargs are for is not known
    assert arguments_of(MoRe).complete
    # the arguments are those of the last of three bases
    assert 'power' in arguments_of(PolyLR).names
    assert not arguments_of(CheckpointHook).complete


def test_only_close_names_are_wrong_where_others_may_be_right():
    refuse_unknown('a', ['entirely_different'], ['known'], complete=False)
    with pytest.raises(ValueError, match='a.knwon is not known, did you mean'):
        refuse_unknown('a', ['knwon'], ['known'], complete=False)
