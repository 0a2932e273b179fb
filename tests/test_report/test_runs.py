"""What a model and a folder of masks add to an image."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

import mask_run
import stock_model
from mmseg_more.masks.calibration import Calibration, MapThreshold
from mmseg_more.masks.images import list_images
from mmseg_more.report import ReportedMasks, see_by_model, see_files
from mmseg_more.report.settings import evaluated_thresholds, report_dataset, shown_maps

from mmseg.registry import MODELS


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Images, labels, a checkpoint and true masks."""
    folder = mask_run.make_data(tmp_path_factory.mktemp('data'))
    generator = np.random.default_rng(0)
    for name, (size, _) in mask_run.IMAGES.items():
        path = folder / 'truth' / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), generator.integers(0, 3, size, np.uint8))
    return folder


@pytest.fixture
def cfg(data):
    """Its validation data have true masks, its other data none."""
    init_default_scope('mmseg')
    cfg = mask_run.config(data)
    dataset = cfg.val_dataloader.dataset
    dataset.test_mode = True
    dataset.data_prefix.seg_map_path = 'truth'
    return cfg


def build(cfg, data):
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(data / 'weights.pth')['state_dict'])
    return model.eval()


def test_by_more(cfg, data):
    dataset, model = report_dataset(cfg, 'val'), build(cfg, data)
    images = list_images(dataset)
    all_seen = list(see_by_model(model, dataset, images, shown_maps(cfg)))
    assert [seen.name for seen in all_seen] == sorted(mask_run.IMAGES)
    for seen in all_seen:
        size, classes = mask_run.IMAGES[seen.name]
        assert seen.image.shape == (*size, 3)
        assert list(seen.labels) == ['training label', 'prediction']
        assert list(seen.maps) == ['attention', 'cam', 'lam']
        for value in (*seen.labels.values(), seen.truth):
            assert value.shape == size
        for value in seen.maps.values():
            assert value.shape == (len(classes), *size)
        assert len(seen.map_indices) == len(classes)
        assert 0 < seen.confidence <= 1
        assert seen.pred_score.shape == (2,)
    assert model.localization_request is None


def test_by_more_without_labels(cfg, data):
    """The maps are of the predicted classes, and there is no training label."""
    dataset, model = report_dataset(cfg, 'val'), build(cfg, data)

    class Unlabelled:
        def __getitem__(self, index):
            item = dataset[index]
            del item['data_samples'].gt_score, item['data_samples'].gt_sem_seg
            return item

    image = list_images(dataset)[0]
    (seen,) = see_by_model(model, Unlabelled(), [image], shown_maps(cfg))
    assert list(seen.labels) == ['prediction']
    assert seen.gt_score is None and seen.truth is None
    assert len(seen.maps['lam']) == len(seen.map_indices)


def test_by_another_segmentor(cfg):
    dataset = report_dataset(cfg, 'val')
    model = stock_model.build().eval()
    (seen,) = see_by_model(model, dataset, list_images(dataset)[:1], shown_maps(cfg))
    assert list(seen.labels) == ['prediction']
    assert not seen.maps and 0 < seen.confidence <= 1


def test_images_of_the_training_are_seen_without_masks(cfg):
    dataset = report_dataset(cfg, 'train')
    seen = next(see_files(dataset, list_images(dataset)))
    assert seen.truth is None and seen.gt_score is not None
    cfg.pop('val_dataloader')
    with pytest.raises(ValueError, match='no `val_dataloader`: name another --split'):
        report_dataset(cfg, 'val')


def test_scales_and_thresholds_are_those_of_the_evaluation(cfg, tmp_path):
    cfg.val_evaluator = dict(type='LocalizationMetric', bkg=dict(cam=0.3, lam=0.6))
    cfg.default_hooks = dict(hook=dict(type='LocalizationHook', cam_scales=(1.0, 2.0)))
    assert shown_maps(cfg).cam_scales == (1.0, 2.0)
    thresholds = evaluated_thresholds(cfg)
    assert thresholds.bkg['cam'] == 0.3 and thresholds.bkg['lam'] == 0.6
    # of a file, those of the maps of several scales, as the hook asks for
    kinds = dict(raw=MapThreshold(0.1, {}), ms=MapThreshold(0.8, {}))
    thresholds = {kind: dict(cam=value, lam=value) for kind, value in kinds.items()}
    Calibration(thresholds).save(tmp_path / 'file.json')
    cfg.val_evaluator = dict(type='LocalizationMetric', bkg=str(tmp_path / 'file.json'))
    found = evaluated_thresholds(cfg)
    assert found.bkg['cam'] == 0.8 and found.bkg['lam'] == 0.1
    cfg.val_evaluator = cfg.test_evaluator = dict(type='IoUMetric')
    assert evaluated_thresholds(cfg).bkg['lam'] == 0.5


# ------------------------------------------------------------------------ masks
@pytest.fixture
def masks(tmp_path):
    """Two masks of the images, as ``--pseudo-labels`` writes them."""
    (tmp_path / 'below').mkdir()
    images = {}
    for name in ('a', 'below/a'):
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.full((24, 32), 2, np.uint8))
        images[name] = dict(classes=['disk'], image_confidence=0.7)
    del images['a']['image_confidence']  # as of earlier versions
    manifest = dict(
        settings={}, checkpoint={}, classes=mask_run.CLASSES, images=images, failed={}
    )
    (tmp_path / 'manifest.json').write_text(json.dumps(manifest))
    return tmp_path


def test_masks_of_a_folder(cfg, masks):
    dataset = report_dataset(cfg, 'val')
    reported = ReportedMasks(masks, mask_run.CLASSES)
    images = reported.of_split(list_images(dataset))
    first, second = (reported.add_to(seen) for seen in see_files(dataset, images))
    assert (first.name, second.name) == ('a', 'below/a')
    assert (first.confidence, second.confidence) == (None, 0.7)
    assert (first.labels['mask'] == 2).all() and first.judged == 'mask'


def test_a_mask_stands_before_the_prediction(cfg, data, masks):
    dataset, model = report_dataset(cfg, 'val'), build(cfg, data)
    reported = ReportedMasks(masks, mask_run.CLASSES)
    images = reported.of_split(list_images(dataset))
    seen = reported.add_to(next(see_by_model(model, dataset, images, shown_maps(cfg))))
    assert list(seen.labels) == ['training label', 'mask', 'prediction']
    assert seen.confidence is None  # not that of the prediction


def test_a_damaged_mask_is_named(cfg, masks):
    path = masks / 'a.png'
    path.write_bytes(path.read_bytes()[:40])
    dataset = report_dataset(cfg, 'val')
    reported = ReportedMasks(masks, mask_run.CLASSES)
    images = reported.of_split(list_images(dataset))
    with pytest.raises(ValueError, match=r'a\.png is no whole PNG'):
        reported.add_to(next(see_files(dataset, images)))


def test_masks_that_do_not_fit(cfg, masks):
    dataset = report_dataset(cfg, 'val')
    images = list_images(dataset)
    with pytest.raises(ValueError, match='masks of the classes .*disk.* data set has'):
        ReportedMasks(masks, ('background', 'cat'))
    reported = ReportedMasks(masks, mask_run.CLASSES)
    others = [image for image in images if image.name in ('c', 'd')]
    with pytest.raises(ValueError, match=r"no mask of the 2 images .*'c', 'd'.* --split"):
        reported.of_split(others)
    cv2.imwrite(str(masks / 'a.png'), np.zeros((3, 4), np.uint8))
    with pytest.raises(ValueError, match=r'a\.png has the shape \(3, 4\), its image'):
        reported.add_to(next(see_files(dataset, images)))
    with pytest.raises(FileNotFoundError, match='manifest'):
        ReportedMasks(masks / 'below', mask_run.CLASSES)
