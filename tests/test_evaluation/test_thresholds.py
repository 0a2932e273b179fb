"""Thresholds of a file, and the metrics that read it."""

import pytest
import torch
from mmengine.config import Config

from localization_samples import CLASSES, REQUEST, K, make_sample
from mmseg_more.evaluation import LocalizationMetric, use_protocols
from mmseg_more.evaluation.thresholds import MapThresholds, strongest_class
from mmseg_more.localization import move_threshold
from mmseg_more.masks import Calibration, MapThreshold

NAMES = CLASSES[1:]


@pytest.fixture
def path(tmp_path):
    raw = dict(cam=MapThreshold(0.2), lam=MapThreshold(0.4, dict(star=0.1)))
    Calibration(dict(raw=raw, ms=dict(cam=MapThreshold(0.3)))).save(tmp_path / 'c.json')
    return str(tmp_path / 'c.json')


def test_thresholds_of_a_file(path):
    assert MapThresholds(path).bkg == dict(cam=0.2, lam=0.4, fused=0.5, attention=0.5)
    assert MapThresholds(path, kinds='ms').bkg['cam'] == 0.3
    mixed = MapThresholds(path, kinds=dict(cam='ms', lam='raw', fused='ms'))
    assert (mixed.bkg['cam'], mixed.bkg['lam']) == (0.3, 0.4)


def test_thresholds_of_single_classes_are_scored(path):
    thresholds = MapThresholds(path)
    sample = make_sample(3)
    sample.gt_score[:] = 1
    maps, truth = sample.get('lam').data.float(), sample.gt_sem_seg.data[0]
    counts = thresholds.histogram('lam', maps, sample.gt_score, truth, 255, None, NAMES)
    bent = move_threshold(maps, torch.tensor([0.4, 0.4, 0.1]))
    expected = torch.where(bent.amax(0) > 0.5, bent.argmax(0) + 1, 0)
    confusion = thresholds.figures('lam', counts).confusion
    valid = truth != 255
    for label in range(K + 1):
        assert confusion[:, label].sum() == (expected[valid] == label).sum()
    with pytest.raises(ValueError, match=r'c\.json: .*unknown classes'):
        thresholds.histogram(
            'lam', maps, sample.gt_score, truth, 255, None, ('a', 'b', 'c')
        )


@pytest.mark.parametrize('present', [[], [299], [0, 7, 255]])
def test_strongest_class_of_many(present):
    """As with maps of absent classes set to 0, wherever a map of the image's is not."""
    maps = torch.rand(300, 6, 7, generator=torch.Generator().manual_seed(0))
    maps[present, :2] = 0
    gt_score = torch.zeros(300)
    gt_score[present] = 1
    expected, label = (maps * gt_score[:, None, None]).max(0)
    value, found = strongest_class(maps, gt_score)
    assert torch.equal(value, expected)
    assert torch.equal(found[value > 0], label[value > 0])
    counts = MapThresholds(0.0).histogram('lam', maps, gt_score, torch.zeros(6, 7), 255)
    assert counts.sum() == 42 and counts[:, gt_score == 0, 1:].sum() == 0


def test_localization_metric_takes_the_scales_of_the_request(path):
    metric = LocalizationMetric(bkg=path)
    assert metric.thresholds.bkg['cam'] == 0.2
    metric.localization_request = REQUEST._replace(cam_scales=(1.0, 0.5))
    assert metric.thresholds.bkg['cam'] == 0.3 and metric.thresholds.bkg['lam'] == 0.4
    metric.localization_request = REQUEST
    assert metric.thresholds.bkg['cam'] == 0.2
    with pytest.raises(FileNotFoundError, match='--calibrate'):
        LocalizationMetric(bkg=path + 'x')


def test_protocols_by_a_file(repo_root, path):
    cfg = Config.fromfile(repo_root / 'configs/more/more_vit-t_shapes.py')
    use_protocols(cfg, calibration=path)
    (metric,) = cfg.test_evaluator
    assert (metric['bkg'], metric['background']) == (path, 'calibrated')
    use_protocols(cfg, calibration=path, background='complement')
    assert cfg.test_evaluator[0]['background'] == 'complement'
    with pytest.raises(FileNotFoundError, match='--calibrate'):
        use_protocols(cfg, calibration=path + 'x')
