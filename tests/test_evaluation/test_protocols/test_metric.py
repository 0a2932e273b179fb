"""All protocols in one run: the figures by their definition, and what breaks them."""

import json
import multiprocessing
import os
import signal

import cv2
import mmcv
import numpy as np
import pytest
import torch

from localization_samples import CLASSES, MAPS, REQUEST, K, make_protocol_sample
from mmseg_more.evaluation import ProtocolMetric
from mmseg_more.evaluation.functional import confusion_matrix, mean_iou
from mmseg_more.evaluation.protocols.report import size_range
from mmseg_more.localization import maps_to_labels, move_threshold
from mmseg_more.masks import Calibration, MapThreshold, dense_crf
from mmseg_more.masks import pool as pool_module

NUM_IMAGES = 5


@pytest.fixture(autouse=True)
def no_worker_is_left():
    yield
    assert not [
        p for p in multiprocessing.active_children() if p.name == 'pebble_pool_worker'
    ]


@pytest.fixture
def samples(tmp_path):
    return [make_protocol_sample(i, tmp_path, (12 + i, 9)) for i in range(NUM_IMAGES)]


def build(**kwargs):
    metric = ProtocolMetric(**{**dict(bkg=0.4, num_workers=2), **kwargs})
    metric.dataset_meta = dict(classes=CLASSES)
    metric.localization_request = REQUEST
    return metric


def evaluate(metric, samples, batch_size=2):
    for start in range(0, len(samples), batch_size):
        metric.process(
            None, [sample.to_dict() for sample in samples[start : start + batch_size]]
        )
    return metric.evaluate(len(samples))


def refined_labels(sample, probs, labels):
    image = mmcv.imread(sample.img_path, channel_order='rgb')
    return torch.tensor(labels)[dense_crf(image, probs.numpy()).argmax(0)]


def labels_by_definition(sample, name, protocol):
    """The label map of one image, straight from the method's text."""
    if name == 'seg':
        logits = sample.seg_logits_ms.data
        return {
            'raw': lambda: sample.pred_sem_seg.data[0],
            'ms': lambda: logits.argmax(0),
            'ms_crf': lambda: refined_labels(sample, logits.softmax(0), range(K + 1)),
        }[protocol]()
    maps = sample.get(name if protocol == 'raw' else f'{name}_ms').data
    if protocol != 'ms_crf':
        return maps_to_labels(maps[None], sample.gt_score[None], 0.4)[0]
    present = sample.gt_score.nonzero().flatten()
    maps = maps[present]
    if not len(present):
        return torch.zeros_like(sample.gt_sem_seg.data[0])
    probs = torch.cat([1 - maps.amax(0, keepdim=True), maps])
    return refined_labels(sample, probs, [0, *(present + 1).tolist()])


def test_figures_by_their_definition(samples, tmp_path):
    samples[1].gt_score[:] = 0  # nothing may appear
    path = tmp_path / 'new' / 'protocols.json'
    metrics = evaluate(build(crf=dict(epsilon=0.0), out_json=str(path)), samples)
    assert set(metrics) == {
        f'{name}/{protocol}/mIoU'
        for name in (*MAPS, 'seg')
        for protocol in ('raw', 'ms', 'ms_crf')
    }
    written = json.loads(path.read_text())
    for key, value in metrics.items():
        confusion = sum(
            confusion_matrix(
                labels_by_definition(sample, *key.split('/')[:2]),
                sample.gt_sem_seg.data[0],
                K + 1,
            )
            for sample in samples
        )
        assert value == pytest.approx(100 * mean_iou(confusion)), key
        assert written[key] == value
    assert len(set(metrics.values())) == len(metrics)


def test_sizes_scales_and_settings_stand_beside_the_figures(samples, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        'mmseg_more.evaluation.protocols.metric.print_log',
        lambda text, logger: shown.append(text),
    )
    path = tmp_path / 'protocols.json'
    metrics = evaluate(
        build(
            bkg=dict(lam=0.45),
            split='val.txt of data/x',
            crf=dict(num_iters=3),
            out_json=str(path),
        ),
        samples,
    )
    (text,) = shown
    (row,) = [line for line in text.splitlines() if line.startswith('| LAM')]
    cells = [cell.strip() for cell in row.split('|')[2:-1]]
    written = json.loads(path.read_text())
    assert cells[1] == (
        f'{metrics["lam/ms/mIoU"]:.2f} ('
        f'{written["lam/ms/mIoU_best"]:.2f} at '
        f'{written["lam/ms/best_threshold"]:g})'
    )
    assert cells[2] == f'{metrics["lam/ms_crf/mIoU"]:.2f}'
    for part in (
        'split: val.txt of data/x; 5 images',
        '12..16x9, at which',
        '24x18 in the network',
        'maps at 1, 0.5,',
        'segmentation at 1, 1.25,',
        'CAM 0.5, LAM 0.45, fused 0.5',
        'CRF: 3 iterations, Gaussian sxy 1 weight 3',
    ):
        assert part in text
    assert written['settings'] == dict(
        split='val.txt of data/x',
        num_images=5,
        image_size='12..16x9',
        network_size='24x18',
        ms_scales=[1.0, 0.5],
        seg_scales=[1.0, 1.25],
        bkg=dict(cam=0.5, lam=0.45, fused=0.5),
        crf=dict(
            num_iters=3,
            gaussian_sxy=1.0,
            gaussian_weight=3.0,
            bilateral_sxy=67.0,
            bilateral_srgb=3.0,
            bilateral_weight=4.0,
        ),
        epsilon=0.02,
    )
    for figure in ('precision', 'recall', 'confusion_ratio', 'IoU/circle'):
        assert written[f'fused/ms_crf/{figure}'] > 0
    assert 'seg/ms/mIoU_best' not in written


def test_workers_and_batches_change_nothing(samples):
    metric = build()
    first = evaluate(metric, samples)
    assert evaluate(metric, samples, batch_size=5) == first
    assert evaluate(build(num_workers=0), samples, batch_size=1) == first


@pytest.mark.slow
@pytest.mark.parametrize('failing', [0, NUM_IMAGES - 1])
@pytest.mark.parametrize('kind', ['error', 'killed'])
def test_no_figures_without_the_crf_of_an_image(samples, monkeypatch, kind, failing):
    refine = pool_module.dense_crf_mask

    def fail(image, *args):
        if not image.any():
            if kind == 'killed':
                os.kill(os.getpid(), signal.SIGKILL)
            raise ArithmeticError('of a test')
        return refine(image, *args)

    monkeypatch.setattr(pool_module, 'dense_crf_mask', fail)
    path = samples[failing].img_path
    cv2.imwrite(path, np.zeros_like(cv2.imread(path)))
    metric = build()
    with pytest.raises(RuntimeError, match=rf'{path} \(cam\).*not be comparable'):
        evaluate(metric, samples)
    cv2.imwrite(path, 255 + np.zeros_like(cv2.imread(path)))
    # nothing of the failed evaluation is left over
    assert evaluate(metric, samples) == evaluate(build(), samples)


def test_workers_end_with_the_metric_of_a_broken_run(samples):
    metric = build()
    metric.process(None, [samples[0].to_dict()])
    del metric  # see no_worker_is_left


def test_what_is_missing_is_named(samples):
    metric = build()
    metric.localization_request = None
    with pytest.raises(ValueError, match='use_protocols'):
        evaluate(metric, samples)
    metric.localization_request = REQUEST._replace(cam_scales=(1.0, 0.5))
    with pytest.raises(ValueError, match='compares scale 1 with several'):
        evaluate(metric, samples)
    metric.localization_request = REQUEST
    del samples[3].lam_ms
    with pytest.raises(KeyError, match='"lam_ms".*3.png.*LocalizationHook'):
        evaluate(metric, samples)


def test_an_image_of_another_size(samples):
    cv2.imwrite(samples[2].img_path, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match='2.png has 4x4 pixels, its output'):
        evaluate(build(), samples)


@pytest.mark.parametrize('kwargs', [dict(bkg=dict(lamm=0.5)), dict(bkg=1.5)])
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError):
        ProtocolMetric(**kwargs)


def test_size_range():
    assert size_range([(3, 5), (3, 7)]) == '3x5..7'
    assert size_range([None]) == 'unknown'


def test_a_calibrated_background_follows_the_thresholds(samples, tmp_path):
    """The thresholds of several scales, of single classes too; the rest stays."""
    ms = dict(cam=MapThreshold(0.3), lam=MapThreshold(0.6, dict(star=0.2)))
    file = str(tmp_path / 'c.json')
    Calibration(dict(raw=dict(cam=MapThreshold(0.4)), ms=ms)).save(file)
    out = tmp_path / 'figures.json'
    figures = evaluate(build(bkg=file, background='calibrated', out_json=str(out)), samples)
    for name, own in (('cam', (0.3, 0.3, 0.3)), ('lam', (0.6, 0.6, 0.2))):
        confusion = 0
        for sample in samples:
            present = sample.gt_score.nonzero().flatten()
            maps = move_threshold(
                sample.get(f'{name}_ms').data[present], torch.tensor(own)[present]
            )
            probs = torch.cat([1 - maps.amax(0, keepdim=True), maps])
            labels = refined_labels(sample, probs, [0, *(present + 1).tolist()])
            confusion += confusion_matrix(labels, sample.gt_sem_seg.data[0], K + 1)
        assert figures[f'{name}/ms_crf/mIoU'] == pytest.approx(100 * mean_iou(confusion))
    published = evaluate(build(bkg=file), samples)
    assert published['lam/ms_crf/mIoU'] != figures['lam/ms_crf/mIoU']
    for key in ('seg/ms_crf/mIoU', 'lam/ms/mIoU', 'cam/raw/mIoU'):
        assert published[key] == figures[key]
    settings = json.loads(out.read_text())['settings']
    assert settings['background'] == 'calibrated'
    assert settings['bkg_ms'] == dict(cam=0.3, lam=0.6, fused=0.5)
