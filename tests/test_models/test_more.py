"""The segmentor beyond the reference figures."""

import copy
import pickle

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.utils import digit_version
from torch.testing import assert_close

from mmseg_more.models import LocalizationRequest
from mmseg_more.models.loss_schedule import LossSchedule
from mmseg_more.models.losses import resized_rows
from tiny_model import batch, tiny_config, tiny_model

from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

ALL = {
    'loss_cls',
    'loss_cls_aux',
    'loss_mct',
    'loss_ptc',
    'loss_cre',
    'loss_ure',
    'loss_seg',
    'loss_energy',
}


@pytest.mark.parametrize(
    'iteration, absent',
    [
        (0, {'loss_seg', 'loss_energy'}),
        (2000, {'loss_seg', 'loss_energy'}),
        (2001, set()),
        (10001, set()),
    ],
)
def test_every_parameter_gets_a_gradient(iteration, absent):
    model = tiny_model(iteration)
    losses = model.loss(*batch([1, 0, 1], [0, 1, 0]))
    assert set(losses) == ALL - absent
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name.startswith('decode_head') and absent:
            assert (parameter.grad == 0).all()
        else:
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    'drop', [('cls',), ('cls_aux',), ('mct', 'cre'), ('seg', 'energy')]
)
def test_idle_modules_get_a_zero_gradient(drop):
    losses_cfg = tiny_config().losses
    for name in drop:
        losses_cfg[name].loss_weight = 0
    model = tiny_model(5000, losses=losses_cfg)
    losses = model.loss(*batch([1, 0, 1], [0, 1, 0]))
    assert not {f'loss_{n}' for n in drop} & set(losses)
    sum(losses.values()).backward()
    idle = dict(
        cls=model.classifier,
        cls_aux=model.aux_classifier,
        mct=model.graph,
        seg=model.decode_head,
    )[drop[0]]
    assert all((p.grad == 0).all() for p in idle.parameters())


def test_without_gcr():
    model = tiny_model(5000, graph=None)
    inputs, samples = batch([1, 0, 1], [0, 1, 0])
    losses = model.loss(inputs, samples)
    assert set(losses) == ALL
    sum(losses.values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    tokens = model.extract_feat(inputs)
    assert torch.equal(model.class_tokens(tokens), tokens.classes)


def test_no_maps_without_a_loss_that_needs_them(monkeypatch):
    losses = {
        k: v for k, v in tiny_config().losses.items() if k in ('cls', 'cls_aux', 'mct')
    }
    model = tiny_model(5000, losses=losses)
    monkeypatch.setattr(model.localizer, 'training_cams', None)  # would fail if called
    assert set(model.loss(*batch([1, 0, 1]))) == {'loss_cls', 'loss_cls_aux', 'loss_mct'}


@pytest.mark.parametrize('few', [True, False])
@pytest.mark.parametrize('resizes', [True, False])
def test_size_of_the_logits_that_losses_get(monkeypatch, resizes, few):
    """Losses of others get them at image size, as from a decode head; ours if few."""
    monkeypatch.setitem(resized_rows._FEW_BYTES, 'cpu', 4 * 4 * 64 * 64 - (not few))
    model, sizes = tiny_model(5000), []
    loss = model.loss_schedule['seg']
    loss.resizes_logits = resizes
    loss.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[-2:]))
    model.loss(*batch([1, 0, 1]))
    assert sizes == [(8, 8) if resizes and not few else (64, 64)]


def test_scale_one_is_taken_from_the_training_pass():
    model = tiny_model()
    inputs, _ = batch([1, 0, 1], [0, 1, 0])
    calls = []
    tokens = model.extract_feat(inputs)
    model.backbone.register_forward_hook(lambda m, args, out: calls.append(args[0].shape))
    cams = model.localizer.training_cams(inputs, tokens)
    assert calls == [(2, 3, 64, 64), (4, 3, 32, 32)]
    maps = model.localize(inputs, (1.0, 0.5))
    assert_close(cams.cam, maps.cam, rtol=1e-4, atol=1e-5)
    assert_close(cams.cam_aux, maps.cam_aux, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('labels', [([0, 0, 0],), ([0, 0, 0], [1, 0, 0]), ([1, 1, 1],)])
def test_background_only_and_single_images(labels):
    model = tiny_model(5000)
    losses = model.loss(*batch(*labels))
    assert all(torch.isfinite(v) for v in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize('size', [(64, 96), (70, 50), (16, 16)])
def test_other_image_sizes(size):
    model = tiny_model(5000)
    losses = model.loss(*batch([1, 0, 1], size=size))
    assert all(torch.isfinite(v) for v in losses.values())


# older releases have no float16 autocast on the CPU
@pytest.mark.slow
@pytest.mark.parametrize(
    'dtype',
    [torch.bfloat16, torch.float16]
    if digit_version(torch.__version__) >= digit_version('2.4')
    else [torch.bfloat16],
)
def test_autocast(dtype):
    """Losses stay float32 and close to those of the float32 network."""
    inputs, samples = batch([1, 0, 1], [0, 1, 0])
    torch.manual_seed(0)
    exact = tiny_model(5000).loss(inputs, samples)
    model = tiny_model(5000)
    torch.manual_seed(0)
    with torch.autocast('cpu', dtype=dtype):
        losses = model.loss(inputs, samples)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        if name in ('loss_cls', 'loss_cls_aux', 'loss_mct', 'loss_ptc'):
            assert_close(value, exact[name], rtol=0.03, atol=1e-3)
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_one_class():
    cfg = tiny_config()
    cfg.num_classes = cfg.backbone.num_classes = 1
    cfg.decode_head.num_classes = 2
    model = MODELS.build(cfg)
    model.iteration = 5000
    losses = model.loss(*batch([1], [0]))
    assert all(torch.isfinite(v) for v in losses.values())
    model.localization_request = LocalizationRequest()
    meta = dict(ori_shape=(60, 48), img_shape=(64, 64))
    with torch.no_grad():
        (result,) = model.eval().predict(batch([1])[0], [SegDataSample(metainfo=meta)])
    assert result.lam.data.shape == (1, 60, 48)


def test_a_head_of_mmseg():
    """It takes a list of maps, of which it chooses the last."""
    head = dict(type='FCNHead', num_convs=1, concat_input=False, kernel_size=1)
    cfg = tiny_config()
    cfg.decode_head = dict(head, channels=8, in_channels=cfg.decode_head.in_channels)
    model = MODELS.build(cfg).eval()
    images = batch([1], [0])[0]
    with torch.no_grad():
        logits = model.encode_decode(images)
        single = torch.cat([model.encode_decode(image[None]) for image in images])
    assert logits.shape == (2, model.num_classes + 1, 64, 64)
    torch.testing.assert_close(logits, single)


def test_init_model_of_mmseg(tmp_path):
    from mmseg.apis import init_model

    cfg = Config(
        dict(
            model=tiny_config(),
            default_scope='mmseg',
            test_pipeline=[],
            test_dataloader=dict(dataset=dict(type='BaseSegDataset')),
        )
    )
    model = tiny_model()
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(dataset_meta=dict(classes=list('abcd'), palette=[[0] * 3] * 4)),
        ),
        tmp_path / 'more.pth',
    )
    loaded = init_model(cfg, str(tmp_path / 'more.pth'), device='cpu')
    assert_close(loaded.state_dict(), model.state_dict())


def test_pretrained_goes_to_the_backbone():
    model = MODELS.build(tiny_config(pretrained='vit.pth'))
    assert model.backbone.init_cfg == dict(type='Pretrained', checkpoint='vit.pth')


def test_classes_and_channels_are_said_once():
    cfg = tiny_config()
    for part, keys in dict(
        backbone=['num_classes'],
        graph=['embed_dims'],
        decode_head=['num_classes', 'in_channels'],
    ).items():
        for key in keys:
            cfg[part].pop(key)
    shapes = {k: v.shape for k, v in MODELS.build(cfg).state_dict().items()}
    expected = {k: v.shape for k, v in tiny_model().state_dict().items()}
    assert shapes == expected


def test_masks_have_room_for_254_classes():
    cfg = tiny_config(num_classes=254)
    cfg.backbone.num_classes, cfg.decode_head.num_classes = 254, 255
    assert MODELS.build(cfg).num_classes == 254
    for num_classes in (0, 255, 300):
        with pytest.raises(ValueError, match=f'1..254, got {num_classes}.* 255 is ignored'):
            tiny_model(num_classes=num_classes)


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_localizes_by_its_own_weights(copied):
    model = tiny_model(5000)
    other = copied(model)
    assert other.localizer.model is other and other.iteration == 5000
    inputs, samples = batch([1, 0, 1])
    expected = model.localize(inputs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert_close(other.localize(inputs), expected)
    assert set(other.loss(inputs, samples)) == ALL


def test_averaged_weights_localize():
    model = tiny_model().eval()
    averaged = ExponentialMovingAverage(model, momentum=0.5)
    inputs, _ = batch([1, 0, 1])
    expected = model.localize(inputs)
    with torch.no_grad():
        model.classifier.weight.mul_(-1)
    assert averaged.module.localizer.model is averaged.module
    assert_close(averaged.module.localize(inputs), expected)


def test_a_module_that_is_replaced_is_the_one_that_localizes():
    model = tiny_model().eval()
    inputs, _ = batch([1, 0, 1])
    calls = []

    class Watched(type(model.backbone)):
        def forward(self, *args, **kwargs):
            calls.append(len(args[0]))
            return super().forward(*args, **kwargs)

    cfg = tiny_config().backbone
    cfg.pop('type')
    model.backbone = Watched(**cfg)
    model.localize(inputs)
    model.localizer.training_cams(inputs)
    assert calls == [2, 2, 2]


def test_cams_without_tokens():
    """The benchmark's way to run scale 1 again."""
    model = tiny_model().eval()
    inputs, _ = batch([1, 0, 1], [0, 1, 0])
    shared = model.localizer.training_cams(inputs, model.extract_feat(inputs))
    assert_close(model.localizer.training_cams(inputs), shared, rtol=1e-4, atol=1e-5)


def test_stations_of_a_step_are_named_to_the_profiler():
    model = tiny_model(5000)
    inputs, samples = batch([1, 0, 1])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        model.loss(inputs, samples)
    names = {event.key for event in seen.key_averages() if event.key.startswith('more/')}
    assert names == {
        'more/tokens',
        'more/heads',
        'more/gcr',
        'more/cams',
        'more/cam_x1',
        'more/cam_x0.5',
        'more/training_labels',
        'more/par',
        'more/losses',
        *(f'more/{name}' for name in ALL),
    }


@pytest.mark.parametrize(
    'overrides, message',
    [
        (dict(test_cfg=dict(mode='slide')), 'whole'),
        (
            dict(num_classes=4),
            'disagree on the number of foreground classes: .*backbone.num_classes.: 3',
        ),
        (
            dict(graph=dict(type='GraphCategoryRepresentation', embed_dims=8)),
            'disagree on the number of channels',
        ),
        (dict(localization=dict(scale=(1,))), "unknown keys \\['scale'\\]"),
        (dict(localization=dict(scales=())), 'positive scale'),
        (
            dict(losses=dict(clss=dict(type='MultiLabelSoftMarginLoss'))),
            "unknown losses \\['clss'\\]",
        ),
        (dict(losses={}), 'nothing to train'),
        (
            dict(data_preprocessor=dict(type='SegDataPreProcessor', size=(8, 8))),
            '`mean` and `std`',
        ),
        (
            dict(
                data_preprocessor=dict(
                    type='SegDataPreProcessor', mean=[0] * 3, std=[1] * 3, size=97
                )
            ),
            'data_preprocessor.size must be the height and width',
        ),
        (dict(pseudo_label=dict(high=0.2, low=0.5)), 'low, high must be ordered'),
    ],
)
def test_impossible_configs(overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(**overrides)


@pytest.mark.parametrize(
    'overrides',
    [dict(pseudo_label=dict(hgih=0.7)), dict(pseudo_label=dict(par=dict(dilation=1)))],
)
def test_typo_in_a_config(overrides):
    with pytest.raises(TypeError, match='hgih|dilation'):
        tiny_model(**overrides)


@pytest.mark.parametrize('score', [None, torch.zeros(5)])
def test_missing_image_labels(score):
    inputs, samples = batch([1, 0, 0])
    samples[0].set_metainfo(dict(img_path='a.jpg'))
    del samples[0].gt_score
    if score is not None:
        samples[0].gt_score = score
    with pytest.raises(ValueError, match='gt_score.*a.jpg'):
        tiny_model().loss(inputs, samples)


def test_schedule():
    schedule = LossSchedule(
        dict(
            cls=dict(type='MultiLabelSoftMarginLoss'),
            seg=dict(type='BalancedCrossEntropyLoss', begin=5),
            ptc=dict(type='PatchAffinityLoss', begin=0),
            cre=dict(type='ConfidentRelationLoss', loss_weight=0),
        )
    )
    assert schedule.active(0).names == ['cls']
    assert schedule.active(1).names == schedule.active(5).names == ['cls', 'ptc']
    assert schedule.active(6).names == ['cls', 'ptc', 'seg']
    assert not schedule.active(0).need_maps
    assert schedule.active(1).need_maps
    assert not schedule.active(1).need_refined_labels
    assert schedule.active(6).need_refined_labels


def test_default_losses_are_those_of_the_voc_config():
    cfg = tiny_config()
    shipped = LossSchedule(cfg.losses)
    default = tiny_model(losses=None).loss_schedule
    assert shipped.begin == default.begin
    for name, module in shipped.losses.items():
        assert vars_of(module) == vars_of(default[name])


def vars_of(module):
    return {k: v for k, v in vars(module).items() if not k.startswith('_')}
