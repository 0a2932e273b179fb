"""PseudoLabelHook in test loops that know nothing of it, with models that are no MoRe."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mask_run
from golden import ROOT
from mask_run import IMAGES, files, manifest, name_of, read_mask, threshold_mask

from mmseg.registry import MODELS

SIZE = (32, 24)  # (width, height) that the stock model sees


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def data_with_truth(tmp_path_factory):
    """The images of the other tests, with true masks."""
    data = mask_run.make_data(tmp_path_factory.mktemp('truth') / 'data')
    for name, (size, labels) in IMAGES.items():
        path = data / 'masks' / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        truth = np.zeros(size, np.uint8)
        truth[:, 1:] = len(labels)
        cv2.imwrite(str(path), truth)
    return data


def stock_config(data, out, batch_size=4, **hook):
    """A small stock DeepLabV3+ that is tested as MMSegmentation tests it."""
    cfg = Config.fromfile(ROOT / 'configs/two_stage/deeplabv3plus_r50_shapes.py')
    width = 4
    cfg.merge_from_dict(
        {
            'model.backbone.base_channels': width,
            'model.backbone.stem_channels': width,
            'model.backbone.depth': 18,
            'model.decode_head.in_channels': 8 * width,
            'model.decode_head.channels': width,
            'model.decode_head.c1_in_channels': width,
            'model.decode_head.c1_channels': width,
            'model.decode_head.num_classes': 3,
            'model.data_preprocessor.test_cfg': dict(size=SIZE[::-1]),
            'log_level': 'WARNING',
            'work_dir': str(out.parent / 'work'),
        }
    )
    dataset = dict(
        type='ImageLevelDataset',
        data_root=str(data),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        label_file='labels.json',
        metainfo=dict(classes=mask_run.CLASSES),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=SIZE, keep_ratio=False),
            dict(type='LoadMask'),
            dict(type='PackSegInputs'),
        ],
    )
    loader = cfg.test_dataloader
    loader.update(batch_size=batch_size, num_workers=0, persistent_workers=False)
    loader.dataset = dataset
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for module in model.modules():  # random weights that see all classes
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    cfg.load_from = str(out.parent / 'stock.pth')
    torch.save(dict(state_dict=model.state_dict()), cfg.load_from)
    cfg.custom_hooks = [dict(type='PseudoLabelHook', out_dir=str(out), **hook)]
    return cfg


def predictions(runner, data):
    """What the model says of each image, by the names of the images."""
    with torch.no_grad():
        samples = [
            sample
            for batch in runner.test_dataloader
            for sample in runner.model.test_step(batch)
        ]
    return {name_of(sample.img_path, data): sample for sample in samples}


def test_a_stock_model_in_a_stock_loop(data_with_truth, tmp_path):
    """Whole batches, and the figures of all images beside the masks."""
    cfg = stock_config(data_with_truth, tmp_path / 'masks')
    runner = mask_run.run(cfg)
    assert type(runner.test_loop).__name__ == 'TestLoop'
    samples = predictions(runner, data_with_truth)
    found = manifest(tmp_path / 'masks')
    assert found['complete'] and set(found['images']) == set(IMAGES)
    assert found['settings']['source'] == 'seg' and found['settings']['scales'] == []
    # the data have image labels: no other class appears
    assert found['settings']['classes'] == 'image-labels'
    for name, (size, labels) in IMAGES.items():
        allowed = [0, *sorted(mask_run.CLASSES.index(label) for label in labels)]
        logits = samples[name].seg_logits.data[allowed]
        expected = torch.tensor(allowed)[logits.argmax(0)]
        mask = read_mask(tmp_path / 'masks' / f'{name}.png')
        assert mask.shape == size and np.array_equal(mask, expected)
    assert {
        value
        for name in IMAGES
        for value in np.unique(read_mask(tmp_path / 'masks' / f'{name}.png'))
    } > {0}


@pytest.mark.parametrize('crf', [False, dict(num_iters=2)])
def test_all_classes_of_data_without_labels(data_with_truth, tmp_path, crf):
    cfg = stock_config(data_with_truth, tmp_path / 'masks', crf=crf)
    cfg.test_dataloader.dataset.label_file = ''
    samples = predictions(mask_run.run(cfg), data_with_truth)
    found = manifest(tmp_path / 'masks')
    assert found['settings']['classes'] == 'all' and found['complete']
    for name, entry in found['images'].items():
        mask = read_mask(tmp_path / 'masks' / f'{name}.png')
        if not crf:
            assert np.array_equal(mask, samples[name].pred_sem_seg.data[0])
        shown = {mask_run.CLASSES[value] for value in np.unique(mask)}
        assert set(entry['confidence']) == shown
        assert set(entry['classes']) == shown - {'background'}


def test_going_on_in_a_stock_loop(data_with_truth, tmp_path):
    """What is there is not written again, though the network sees it."""
    cfg = stock_config(data_with_truth, tmp_path / 'masks')
    mask_run.run(cfg)
    whole = files(tmp_path / 'masks')
    gone = tmp_path / 'masks' / 'b.png'
    gone.unlink()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / 'masks').glob('*.png')}
    mask_run.run(cfg)
    assert files(tmp_path / 'masks') == whole
    assert times == {path: path.stat().st_mtime_ns for path in times} and gone.exists()


def test_more_in_a_stock_loop_with_batches(data, finished, tmp_path):
    """A MoRe too: two images at a time, the same labels."""
    cfg = mask_run.mask_config(data, tmp_path / 'masks')
    cfg.test_cfg = dict(type='TestLoop')
    cfg.test_dataloader.batch_size = 4
    runner = mask_run.run(cfg)
    assert runner.model.localization_request is None
    for name in IMAGES:
        mine, theirs = (
            read_mask(out / f'{name}.png') for out in (tmp_path / 'masks', finished)
        )
        assert (mine == theirs).mean() > 0.99  # sums of another order at a threshold


def test_two_hooks_make_two_kinds_of_masks(data, finished, outputs, tmp_path):
    cfg = mask_run.mask_config(data, tmp_path / 'lam')
    cfg.test_cfg = dict(type='TestLoop')
    hook = dict(cfg.custom_hooks[-1], out_dir=str(tmp_path / 'cam'), source='cam', bkg=0.3)
    cfg.custom_hooks.append(hook)
    mask_run.run(cfg)
    for name in IMAGES:
        assert np.array_equal(
            read_mask(tmp_path / 'lam' / f'{name}.png'), read_mask(finished / f'{name}.png')
        )
        indices = [mask_run.CLASSES.index(label) - 1 for label in IMAGES[name][1]]
        expected = threshold_mask(outputs[name].cam_ms.data, indices, 0.3)
        assert np.array_equal(read_mask(tmp_path / 'cam' / f'{name}.png'), expected)


@pytest.mark.parametrize(
    'hook, message',
    [
        (dict(source='lam'), "'lam' needs the segmentor MoRe"),
        (dict(policy='predicted'), 'needs a model that predicts image labels'),
        (dict(scales=(1.0, 2.0)), 'other models take several scales by --tta'),
    ],
)
def test_what_a_stock_model_cannot_give(data_with_truth, tmp_path, hook, message):
    with pytest.raises(ValueError, match=message):
        mask_run.run(stock_config(data_with_truth, tmp_path / 'masks', **hook))


def test_an_image_that_did_not_pass_by_is_reported(data_with_truth, tmp_path):
    cfg = stock_config(data_with_truth, tmp_path / 'masks')
    cfg.test_dataloader.drop_last = True  # six images in batches of four
    with pytest.raises(RuntimeError, match='2 of 6 images have no mask.*no process has'):
        mask_run.run(cfg)
    assert len(manifest(tmp_path / 'masks')['images']) == 4


def test_a_loop_for_masks_needs_the_hook(data, tmp_path):
    cfg = mask_run.mask_config(data, tmp_path / 'masks')
    cfg.custom_hooks = []
    with pytest.raises(ValueError, match='one PseudoLabelHook among the hooks, .* are 0'):
        mask_run.run(cfg)
