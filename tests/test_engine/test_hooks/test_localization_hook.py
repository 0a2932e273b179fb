import json
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import Dataset

from golden import model_config
from mmseg_more.engine.hooks import LocalizationHook
from mmseg_more.models import MoReTTAModel
from mmseg_more.models.structures import LocalizationRequest

from mmseg.registry import HOOKS, METRICS, MODELS
from mmseg.structures import SegDataSample

SIZE = (24, 32)
CLASSES = ('background', 'circle', 'star')


class Images(Dataset):
    metainfo = dict(classes=CLASSES, palette=[[0, 0, 0], [200, 0, 0], [0, 200, 0]])

    def __init__(self, folder):
        self.paths = [str(folder / f'img{i}.png') for i in range(6)]
        for path in self.paths:
            cv2.imwrite(path, np.full((*SIZE, 3), 90, np.uint8))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        sample = SegDataSample(metainfo=dict(img_path=self.paths[index], ori_shape=SIZE))
        truth = torch.zeros(1, *SIZE, dtype=torch.long)
        truth[:, :12] = 1
        sample.gt_sem_seg = PixelData(data=truth)
        sample.set_field(torch.tensor([1.0, 0.0]), 'gt_score')
        return dict(inputs=torch.rand(3, *SIZE), data_samples=sample)


class Segmentor(BaseModel):
    """Gives the maps that were asked for, and writes the requests down."""

    def __init__(self, fail=False):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.localization_request = None
        self.fail = fail
        self.requests = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        request = self.localization_request
        self.requests.append((mode, request))
        if mode == 'loss':
            return dict(loss=self.linear.weight.sum())
        if self.fail:
            raise RuntimeError('interrupted')
        for sample in data_samples:
            sample.pred_sem_seg = sample.gt_sem_seg.clone()
            sample.set_field(torch.tensor([0.8, 0.1]), 'pred_score')
            sample.set_field(torch.tensor([0]), 'pred_label')
            for name in request.maps if request else ():
                sample.set_field(PixelData(data=torch.rand(2, *SIZE)), name)
        return data_samples


def build_runner(model, tmp_path, visualizer='Visualizer', **hook):
    loader = dict(
        dataset=Images(tmp_path),
        batch_size=2,
        num_workers=0,
        collate_fn=dict(type='pseudo_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    evaluator = dict(type='LocalizationMetric', out_json=str(tmp_path / 'metrics.json'))
    return Runner(
        model=model,
        work_dir=str(tmp_path / 'work'),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        train_cfg=dict(by_epoch=False, max_iters=4, val_interval=2),
        val_cfg=dict(),
        test_cfg=dict(),
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='LocalizationHook', **hook)],
        default_hooks=dict(checkpoint=None),
        visualizer=dict(
            type=visualizer,
            name=f'{tmp_path.name}_{visualizer}',
            vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
        ),
        default_scope='mmseg',
        experiment_name=tmp_path.name,
    )


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.mark.slow
def test_request_lasts_for_the_validation(tmp_path):
    model = Segmentor()
    runner = build_runner(
        model, tmp_path, maps=('lam', 'cam'), cam_scales=(1, 0.5), draw=False
    )
    runner.train()
    request = LocalizationRequest(('cam', 'lam'), (1.0, 0.5), (1.0,), (), ())
    assert model.requests == 2 * ([('loss', None)] * 2 + [('predict', request)] * 3)
    assert model.localization_request is None
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['seg/mIoU'] == 100
    assert 'lam/mIoU' in metrics and 'cam/mIoU' in metrics
    assert 'fused/mIoU' not in metrics


@pytest.mark.slow
def test_multi_scale_fields_and_metrics_that_ask(tmp_path):
    cfg = model_config(
        dict(K=2, dim=16, depth=4, heads=2, pos_img_size=64, patch=8, decoder_mid=8)
    )
    runner = build_runner(
        MODELS.build(cfg.model),
        tmp_path,
        maps=('lam',),
        ms_scales=[1, 0.5],
        seg_scales=[1, 1.25],
        draw=False,
    )
    metric = METRICS.get('LocalizationMetric')()
    metric.localization_request = None
    seen = []
    metric.process = lambda batch, samples: seen.extend(samples)
    metric.evaluate = lambda size: {}
    runner.test_loop.evaluator.metrics.append(metric)
    runner.test()
    request = LocalizationRequest(
        ('lam',), (1.0, 0.5, 0.75, 1.5), (1.0,), (1.0, 0.5), (1.0, 1.25)
    )
    assert metric.localization_request == request
    for sample in seen:
        assert tuple(sample['lam_ms']['data'].shape) == (2, *SIZE)
        assert tuple(sample['seg_logits_ms']['data'].shape) == (3, *SIZE)
        assert 'cam_ms' not in sample


def test_request_lasts_for_the_test(tmp_path):
    model = Segmentor()
    build_runner(model, tmp_path, draw=False).test()
    assert [mode for mode, request in model.requests if request] == ['predict'] * 3
    assert model.localization_request is None


@pytest.mark.slow
def test_training_after_an_interrupted_validation(tmp_path):
    model = Segmentor(fail=True)
    runner = build_runner(model, tmp_path, draw=False)
    with pytest.raises(RuntimeError, match='interrupted'):
        runner.val()
    assert model.localization_request is not None
    model.fail = False
    runner.train()
    assert all(request is None for mode, request in model.requests if mode == 'loss')


@pytest.mark.slow
@pytest.mark.parametrize('visualizer', ['Visualizer', 'SegLocalVisualizer'])
def test_pictures_reach_every_backend(tmp_path, visualizer):
    runner = build_runner(Segmentor(), tmp_path, visualizer, interval=2, max_images=2)
    runner.train()
    names = {f'localization_val_img{i}_{step}.png' for i in (0, 2) for step in (2, 4)}
    folder = next(tmp_path.rglob('vis_image'))
    assert {path.name for path in folder.iterdir()} == names
    picture = cv2.imread(str(folder / 'localization_val_img2_4.png'))
    # image, three maps, prediction, truth, and the caption of one class
    assert picture.shape[1] == 6 * 160 + 24
    assert 160 < picture.shape[0] < 2 * 160

    runner.visualizer.close()
    events = EventAccumulator(str(folder.parent))
    events.Reload()
    assert {
        f'{tag}_{event.step}.png'
        for tag in events.Tags()['images']
        for event in events.Images(tag)
    } == names


@pytest.mark.slow
def test_with_the_real_segmentor(tmp_path):
    cfg = model_config(
        dict(K=2, dim=16, depth=4, heads=2, pos_img_size=64, patch=8, decoder_mid=8)
    )
    model = MODELS.build(cfg.model)
    runner = build_runner(
        model,
        tmp_path,
        maps=('cam', 'lam', 'fused', 'attention'),
        cam_scales=(1, 0.75),
        interval=6,
    )
    metrics = runner.val()
    for name in ('seg', 'cam', 'lam', 'fused', 'attention'):
        assert 0 <= metrics[f'{name}/mIoU'] <= 100
    assert metrics['cls/mAP'] == 100  # the one class that occurs is always on
    folder = next(tmp_path.rglob('vis_image'))
    assert [path.name for path in folder.iterdir()] == ['localization_val_img0_0.png']


class SameImages(Images):
    """The same at each call."""

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        pixels = torch.rand(3, *SIZE, generator=generator)
        return dict(super().__getitem__(index), inputs=pixels)


class Views(Images):
    """Three scales of image and flip, as mmseg's TestTimeAug gives them."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        inputs, samples = [], []
        for scale in (1, 1.25, 1.5):
            for flip in (False, True):
                size = tuple(int(scale * side) for side in SIZE)
                sample = item['data_samples'].clone()
                sample.set_metainfo(
                    dict(img_shape=size, flip=flip, flip_direction='horizontal')
                )
                inputs.append(torch.rand(3, *size))
                samples.append(sample)
        return dict(inputs=inputs, data_samples=samples)


def real_segmentor():
    cfg = model_config(
        dict(K=2, dim=16, depth=4, heads=2, pos_img_size=64, patch=8, decoder_mid=8)
    )
    cfg.model.data_preprocessor.test_cfg = None
    return MODELS.build(cfg.model)


@pytest.mark.slow
def test_test_time_augmentation_runs_each_view_once(tmp_path):
    """Six passes per image and no map; what there is, is scored."""
    model = real_segmentor()
    calls = []
    model.backbone.register_forward_pre_hook(lambda m, args: calls.append(len(args[0])))
    runner = build_runner(MoReTTAModel(module=model), tmp_path, interval=1)
    runner.logger.info = mock.Mock()
    runner.test_loop.dataloader.dataset.__class__ = Views
    metrics = runner.test()
    runner.test()
    assert calls == 2 * 3 * 6 * [2]  # batches of two
    assert {'seg/mIoU', 'cls/mAP'} <= set(metrics)
    assert not any(key.startswith(('cam', 'lam', 'fused')) for key in metrics)
    assert not list(tmp_path.rglob('localization_test_*'))
    said = [str(call.args[0]) for call in runner.logger.info.call_args_list]
    assert sum('LocalizationHook: test-time augmentation' in line for line in said) == 1
    assert model.localization_request is None


@pytest.mark.slow
@pytest.mark.parametrize('policy', ['image-labels', 'predicted'])
def test_maps_of_few_classes_are_drawn_and_scored(tmp_path, policy):
    """As those of all; a class without a map has no row."""
    torch.manual_seed(0)
    model = real_segmentor()
    shown, figures = [], []
    for name in ('all', policy):
        folder = tmp_path / f'{name}_for_{policy}'  # also the visualizer's name
        folder.mkdir()
        runner = build_runner(model, folder, interval=6, policy=name)
        runner.val_loop.dataloader.dataset.__class__ = SameImages
        figures.append(runner.val())
        (file,) = folder.rglob('localization_val_img0_0.png')
        shown.append(cv2.imread(str(file)))
    if policy == 'image-labels':
        assert figures[0] == figures[1]
        np.testing.assert_array_equal(*shown)
    else:
        assert figures[0].keys() == figures[1].keys()
        assert shown[0].shape == shown[1].shape


def test_model_without_request(tmp_path):
    model = Segmentor()
    del model.localization_request
    with pytest.raises(AttributeError, match='localization_request'):
        build_runner(model, tmp_path).val()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(maps=('cam', 'lamm')), 'maps must be'),
        (dict(maps='cam'), 'maps must be'),
        (dict(maps=()), 'maps must be'),
        (dict(cam_scales=(0, 1)), 'cam_scales'),
        (dict(lam_scales=()), 'lam_scales'),
        (dict(ms_scales=(1, -1)), 'ms_scales'),
        (dict(seg_scales=(0,)), 'seg_scales'),
        (dict(interval=0), 'interval'),
        (dict(policy='none'), 'policy must be one of'),
        (dict(alpha=2), 'alpha'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LocalizationHook(**kwargs)


def test_is_registered_in_mmseg():
    assert HOOKS.get('LocalizationHook') is LocalizationHook
