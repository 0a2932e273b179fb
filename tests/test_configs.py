"""Every shipped config builds, and says what docs/method.md says."""

import copy
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from golden import ROOT
from mmseg_more.engine.config_check import check_config
from mmseg_more.engine.hooks.utils import add_hook, find_hooks, remove_hooks

from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS, TRANSFORMS
from mmseg.structures import SegDataSample

# what users type, besides the names in MMSegmentation's scheme
SHORT_NAMES = {
    'more/more_vit-b_voc': 'more_vit-b16_1xb4-20k_voc12aug-448x448',
    'more/more_vit-b_coco': 'more_vit-b16_4xb2-80k_coco14-448x448',
    'more/more_vit-b_coco_published-log': (
        'more_vit-b16_2xb4-published-log-80k_coco14-448x448'
    ),
    'more/more_vit-t_shapes': 'more_vit-t8_1xb16-1400iters_shapes-96x96',
    'more/more_vit-t_shapes_baseline': 'more_vit-t8_baseline_1xb16-1400iters_shapes-96x96',
    'more/more_vit-t_shapes_metrics': 'more_vit-t8_1xb16-1400iters_shapes-96x96_metrics',
    'more/more_deit3-b_voc': 'more_deit3-b16_1xb4-20k_voc12aug-448x448',
    'more/more_deit3-b_coco': 'more_deit3-b16_4xb2-80k_coco14-448x448',
    'more/more_dinov2-b_voc': 'more_dinov2-b14_1xb4-20k_voc12aug-448x448',
    'more/more_dinov2-b_coco': 'more_dinov2-b14_4xb2-80k_coco14-448x448',
    'more/more_dinov2-b-reg_voc': 'more_dinov2-b14-reg4_1xb4-20k_voc12aug-448x448',
    'more/more_dinov2-b-reg_coco': 'more_dinov2-b14-reg4_4xb2-80k_coco14-448x448',
    'more/more_dinov3-b_voc': 'more_dinov3-b16_1xb4-20k_voc12aug-448x448',
    'more/more_dinov3-b_coco': 'more_dinov3-b16_4xb2-80k_coco14-448x448',
    'more/more_vit-l_voc_fsdp': 'more_vit-l16_fsdp_2xb2-20k_voc12aug-448x448',
    'more/more_clip-b_voc': 'more_clip-b16_1xb4-20k_voc12aug-448x448',
    'more/more_clip-b_coco': 'more_clip-b16_4xb2-80k_coco14-448x448',
    'two_stage/deeplabv3plus_r50_shapes': (
        'deeplabv3plus_r50-d16_1xb16-1800iters_shapes-pseudo-96x96'
    ),
    'two_stage/deeplabv3plus_r50_voc': (
        'deeplabv3plus_r50-d8_1xb16-20k_voc12aug-pseudo-512x512'
    ),
    'two_stage/fcn_more-vit_shapes': 'fcn_more-vit-t8_1xb16-1800iters_shapes-pseudo-96x96',
    'two_stage/segformer_b0_shapes': (
        'segformer_mit-b0_1xb16-1800iters_shapes-pseudo-96x96'
    ),
    'two_stage/segformer_b0_voc': 'segformer_mit-b0_1xb16-20k_voc12aug-pseudo-512x512',
}
# copied and filled in by users: neither its data nor its schedule has a name yet
TEMPLATE = ROOT / 'configs/more/more_vit-b_custom.py'
SCHEME = re.compile(
    r'[a-z0-9]+(_[a-z0-9-]+)+'  # algorithm, backbone, other components
    r'_(?P<gpus>\d+)xb(?P<batch>\d+)(-[a-z-]+)?-(?P<schedule>\d+(k|iters))'
    r'_[a-z0-9-]+-(?P<height>\d+)x(?P<width>\d+)(_[a-z]+)?'
)


def shipped(folder):
    """The configs of a folder, each of them once."""
    return [
        path
        for path in sorted((ROOT / 'configs' / folder).glob('*.py'))
        if f'{folder}/{path.stem}' not in SHORT_NAMES
    ]


CONFIGS = shipped('more')
TWO_STAGE = shipped('two_stage')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_builds(path):
    cfg = Config.fromfile(path)
    check_config(cfg)
    init_default_scope(cfg.default_scope)
    model_cfg = copy.deepcopy(cfg.model)
    if model_cfg.backbone.arch in ('base', 'large'):  # 86 million weights: fewer layers
        model_cfg.backbone.arch = dict(
            embed_dims=768, num_layers=3, num_heads=12, feedforward_channels=64
        )
    model = MODELS.build(model_cfg)
    build_hooks(cfg)
    evaluators = cfg.val_evaluator
    for metric in evaluators if isinstance(evaluators, list) else [evaluators]:
        METRICS.build(metric)
    for pipeline in (cfg.train_pipeline, cfg.val_pipeline, cfg.tta_pipeline):
        for transform in pipeline:
            TRANSFORMS.build(transform)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = cfg[loader].dataset
        assert DATASETS.get(dataset.type) is not None
        classes = dataset.get('metainfo', DATASETS.get(dataset.type).METAINFO)['classes']
        assert len(classes) == model.num_classes + 1
        assert classes[0] == 'background'


def build_hooks(cfg):
    """Those of this package; MMEngine's need a runner."""
    assert 'custom_hooks' not in cfg  # a user's own, which would replace them
    for hook in find_hooks(cfg, 'IterationHook', 'SanityCheckHook', 'LocalizationHook'):
        HOOKS.build(hook)


def test_every_config_is_covered():
    folders = {path.parent.name for path in (ROOT / 'configs').glob('[!_]*/*.py')}
    assert folders == {'more', 'two_stage'} and CONFIGS and TWO_STAGE


@pytest.mark.parametrize('short', SHORT_NAMES)
def test_short_name_is_the_same_config(short):
    path = ROOT / 'configs' / f'{short}.py'
    full = path.with_stem(SHORT_NAMES[short])
    code = [line for line in path.read_text().splitlines() if not line.startswith('#')]
    assert code == [f"_base_ = './{full.name}'"]
    assert Config.fromfile(path).to_dict() == Config.fromfile(full).to_dict()


@pytest.mark.parametrize(
    'path', [path for path in CONFIGS + TWO_STAGE if path != TEMPLATE], ids=lambda p: p.stem
)
def test_name_says_what_the_config_holds(path):
    """MMSegmentation's scheme: components, GPUs x batch and schedule, data and crop."""
    match = SCHEME.fullmatch(path.stem)
    assert match, 'no name of the scheme'
    says = match.groupdict()
    cfg = Config.fromfile(path)
    assert int(says['batch']) == cfg.train_dataloader.batch_size
    assert int(says['gpus']) * int(says['batch']) == cfg.auto_scale_lr.base_batch_size
    unit = 1000 if says['schedule'].endswith('k') else 1
    assert int(re.match(r'\d+', says['schedule'])[0]) * unit == cfg.train_cfg.max_iters
    assert (int(says['height']), int(says['width'])) == tuple(cfg.crop_size)
    assert cfg.model.data_preprocessor['size'] == cfg.crop_size


@pytest.mark.slow
@pytest.mark.parametrize('path', TWO_STAGE, ids=lambda p: p.stem)
def test_two_stage_trains_a_step(path):
    """A stock model, without compiled operations or a GPU."""
    cfg = Config.fromfile(path)
    check_config(cfg)
    init_default_scope(cfg.default_scope)
    cfg.model.pretrained = None
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    assert type(model).__module__.startswith('mmseg.')
    build_hooks(cfg)
    METRICS.build(cfg.val_evaluator)
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        for transform in pipeline:
            TRANSFORMS.build(transform)

    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert (train.type, val.type) == ('PseudoLabelDataset', 'VOCImageLevelDataset')
    assert cfg.test_dataloader == cfg.val_dataloader
    assert val.test_mode and train.pseudo_dir == cfg.pseudo_dir
    names = [
        DATASETS.build(dict(d, lazy_init=True, pipeline=[])).metainfo['classes']
        for d in (train, val)
    ]
    assert names[0] == names[1] and len(names[0]) == model.decode_head.num_classes

    sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, len(names[0]), (1, 64, 64)))
    sample.gt_sem_seg.data[:, :8] = 255
    for hook in find_hooks(cfg, 'LossImagesHook'):
        HOOKS.build(hook).attach(model)
    losses = model(torch.randn(2, 3, 64, 64), [sample] * 2, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for scheduler in cfg.param_scheduler:
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optim_wrapper))
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters


def _model(name):
    return Config.fromfile(ROOT / f'configs/more/{name}.py')


def _weights(cfg):
    return {k: (v.loss_weight, v.get('begin')) for k, v in cfg.model.losses.items()}


def test_voc_numbers():
    cfg = _model('more_vit-b_voc')
    assert _weights(cfg) == dict(
        cls=(1, None),
        cls_aux=(1, None),
        mct=(1, None),
        ptc=(0.3, None),
        cre=(0.2, None),
        ure=(0.1, None),
        seg=(0.12, 2000),
        energy=(0.05, 2000),
    )
    assert cfg.model.losses.cre.temperature == 0.5
    assert tuple(cfg.model.localization.scales) == (1.0, 0.5, 0.75, 1.5)
    assert cfg.model.pseudo_label.switch_iter == 10000
    assert cfg.train_cfg.max_iters == 20000
    assert cfg.train_cfg.val_interval == 2000
    assert cfg.train_dataloader.batch_size == 4


@pytest.mark.parametrize(
    'suffix, expected',
    [
        (
            '',
            dict(
                ptc=(0.3, 8000),
                cre=(0.1, 12000),
                ure=(0.01, 12000),
                seg=(0.12, 16000),
                energy=(0.05, 16000),
            ),
        ),
        (
            '_published-log',
            dict(
                ptc=(0.3, None),
                cre=(0.05, None),
                ure=(0, None),
                seg=(0.12, None),
                energy=(0.05, None),
            ),
        ),
    ],
)
def test_coco_numbers(suffix, expected):
    cfg = _model('more_vit-b_coco' + suffix)
    weights = _weights(cfg)
    assert {k: weights[k] for k in expected} == expected
    assert cfg.model.losses.cre.temperature == 0.1
    assert tuple(cfg.model.localization.scales) == (1.0, 0.5, 0.75, 1.25, 1.5)
    labels = cfg.model.pseudo_label
    assert (labels.high, labels.low, labels.bkg) == (0.65, 0.25, 0.45)
    assert labels.switch_iter == 50000
    assert cfg.train_cfg.max_iters == 80000
    assert cfg.train_cfg.val_interval == 4000


def test_baseline_differs_in_the_regularisation_alone():
    full, base = _model('more_vit-t_shapes'), _model('more_vit-t_shapes_baseline')
    assert base.model.graph is None
    for name in ('cre', 'ure', 'ptc'):
        assert base.model.losses[name].loss_weight == 0
        base.model.losses[name].loss_weight = full.model.losses[name].loss_weight
    base.model.graph = full.model.graph
    assert base.to_dict() == full.to_dict()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_classes_stand_in_one_place(path):
    cfg = Config.fromfile(path)
    assert 'num_classes' in cfg.model and 'num_classes' not in cfg
    for part, keys in dict(
        backbone=('num_classes',),
        graph=('embed_dims',),
        decode_head=('num_classes', 'in_channels'),
    ).items():
        assert not set(keys) & set(cfg.model[part] or ())


def test_hooks_of_a_user_take_none_of_ours_away(tmp_path):
    """README's line: masks after the training."""
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{ROOT}/configs/more/more_vit-b_voc.py'\n"
        "custom_hooks = [dict(type='PseudoLabelHook', out_dir='masks')]\n"
        'default_hooks = dict(localization=dict(cam_scales=(1.0,)))\n'
    )
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert find_hooks(cfg, 'IterationHook') and find_hooks(cfg, 'SanityCheckHook')
    assert find_hooks(cfg, 'PseudoLabelHook') == cfg.custom_hooks
    (hook,) = find_hooks(cfg, 'LocalizationHook')
    assert hook.cam_scales == (1.0,) and hook.maps == ('cam', 'lam', 'fused')
    remove_hooks(cfg, 'LocalizationHook', 'PseudoLabelHook')
    assert cfg.custom_hooks == [] and 'localization' not in cfg.default_hooks
    add_hook(cfg, hook)
    assert find_hooks(cfg, 'LocalizationHook') == cfg.custom_hooks == [hook]
    stock = Config.fromfile(TWO_STAGE[0])  # of another model
    assert not find_hooks(stock, 'IterationHook', 'LocalizationHook', 'PseudoLabelHook')
    assert find_hooks(stock, 'SanityCheckHook') and find_hooks(stock, 'LoggerHook')


@pytest.mark.parametrize('path', CONFIGS + TWO_STAGE, ids=lambda p: p.stem)
def test_batch_size_that_the_rate_is_meant_for(path):
    """That of one process, but for what several GPUs train together."""
    cfg = Config.fromfile(path)
    base = dict(coco=8, fsdp=4).get(
        next((kind for kind in ('coco', 'fsdp') if kind in path.stem), ''),
        cfg.train_dataloader.batch_size,
    )
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=base)
