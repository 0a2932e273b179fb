"""The metric of confidence scores what PseudoLabelHook writes."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

import mask_run
from mmseg_more.evaluation import ReliabilityMetric, use_protocols, use_reliability
from mmseg_more.masks import (
    Calibration,
    ConfidenceCurve,
    ConfidenceCurves,
    MapThreshold,
    use_pseudo_labels,
)
from mmseg_more.models.structures import LocalizationRequest


def test_confidence_is_that_of_the_manifest(data, outputs, tmp_path):
    """The metric and PseudoLabelHook make the same masks."""
    recipe = dict(crf=dict(num_iters=2), scales=(1.0, 0.5), bkg=0.5)
    mask_run.run_masks(data, tmp_path / 'masks', num_workers=0, **recipe)
    entries = mask_run.manifest(tmp_path / 'masks')['images']
    metric = ReliabilityMetric(('lam',), num_workers=0, **recipe)
    metric.localization_request = LocalizationRequest(
        ms_scales=(1.0, 0.5), seg_scales=(1.0, 0.5)
    )
    metric.dataset_meta = dict(classes=mask_run.CLASSES)
    for name, sample in outputs.items():
        sample = sample.clone()
        truth = mask_run.read_mask(tmp_path / 'masks' / f'{name}.png').astype(np.int64)
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(truth)[None])
        metric.process(None, [sample.to_dict()])
    figures = [figures for (figures,) in metric.results]
    found = metric.evaluate(len(outputs))
    for name, one in zip(outputs, figures):
        assert one['lam/confidence'] == pytest.approx(
            entries[name]['image_confidence'], abs=1e-4
        )
        assert one['lam/error'] == 0  # the truth is the mask
    assert found['lam/AURC'] == 0 and math.isnan(found['lam/excess_AURC'])


@pytest.mark.slow
@pytest.mark.parametrize('sources', [None, ('fused',)])
def test_a_config_is_turned_into_a_run(data, outputs, tmp_path, sources):
    """From use_reliability to the JSON file, by the runner."""
    cfg = mask_run.config(data)
    truth = tmp_path / 'truth'
    for name, sample in outputs.items():
        mask = sample.pred_sem_seg.data[0].byte().numpy()
        (truth / name).parent.mkdir(parents=True, exist_ok=True)
        mask_run.cv2.imwrite(str(truth / f'{name}.png'), mask)
    cfg.test_dataloader.dataset.data_prefix.seg_map_path = str(truth)
    cfg.test_dataloader.dataset.test_mode = True
    for step in cfg.test_dataloader.dataset.pipeline:
        if step['type'] == 'LoadAnnotations':
            step['type'] = 'LoadMask'  # an image has a side of one pixel
    cfg.test_dataloader.batch_size = 1
    cfg.work_dir = str(tmp_path / 'work')
    path = tmp_path / 'figures.json'
    use_reliability(cfg, str(path), sources, num_workers=0, scales=(1.0, 0.5), crf=True)
    mask_run.run(cfg)
    written = json.loads(path.read_text())
    assert written['num_images'] == len(mask_run.IMAGES)
    assert list(written['settings']) == list(sources or ('lam', 'seg'))
    for source, settings in written['settings'].items():
        assert settings['scales'] == [1.0, 0.5] and settings['crf']['num_iters'] == 10
        assert 0 <= written[f'{source}/ECE'] <= 100


def test_config_takes_the_thresholds_of_the_evaluation(data):
    cfg = mask_run.config(data)
    use_reliability(cfg, sources=('cam',))
    (metric,) = cfg.test_evaluator
    evaluated = cfg.val_evaluator.bkg
    assert {evaluated.cam, evaluated.fused}.isdisjoint({0.5})  # what it would be else
    assert metric['bkg'] == evaluated
    (hook,) = [h for h in cfg.custom_hooks if h['type'] == 'LocalizationHook']
    assert hook['maps'] == ('cam',) and hook['policy'] == 'image-labels'
    cfg.model.type = 'MoReTTAModel'
    with pytest.raises(ValueError, match='leave out --tta'):
        use_reliability(cfg)


@pytest.mark.parametrize('bkg', [0.4, 0.0, dict(lam=0.0)])
def test_config_takes_a_threshold_for_all_maps_or_for_each(data, bkg):
    cfg = mask_run.config(data)
    evaluated = dict(cfg.val_evaluator.bkg)
    use_reliability(cfg, sources=('lam',), bkg=bkg)
    (metric,) = cfg.test_evaluator
    given = bkg if isinstance(bkg, dict) else dict.fromkeys(evaluated, bkg)
    assert metric['bkg'] == {**evaluated, **given}


def test_one_file_for_thresholds_and_curves(data, tmp_path):
    """What it holds decides what is taken from it, in each of the runs."""
    curve = ConfidenceCurve([0, 1], [0.4])
    curves = dict(cam=ConfidenceCurves(curve, curve, {}))
    thresholds = dict(ms=dict(cam=MapThreshold(0.3)), raw=dict(cam=MapThreshold(0.3)))
    both, alone = str(tmp_path / 'both.json'), str(tmp_path / 'alone.json')
    Calibration(thresholds, confidence=curves).save(both)
    Calibration(confidence=curves).save(alone)

    def reliability(**options):
        cfg = mask_run.config(data)
        use_reliability(cfg, sources=('cam',), **options)
        return cfg.test_evaluator[0]

    assert reliability(fit_confidence=both)['calibration'] == both
    new = str(tmp_path / 'new.json')
    for metric in (reliability(fit_confidence=new), reliability(fit_confidence=alone)):
        assert 'calibration' not in metric and metric['curves_file']
    other = reliability(fit_confidence=both, calibration=alone)
    assert (other['calibration'], other['curves_file']) == (alone, both)

    evaluated = mask_run.config(data).val_evaluator.bkg.cam
    for file, expected in ((both, None), (alone, evaluated)):
        cfg = mask_run.config(data)
        use_pseudo_labels(cfg, str(tmp_path / 'masks'), source='cam', calibration=file)
        (hook,) = (h for h in cfg.custom_hooks if h['type'] == 'PseudoLabelHook')
        assert hook.get('bkg') == expected

    use_protocols(mask_run.config(data), calibration=both)
    with pytest.raises(ValueError, match='alone.json has no thresholds.*--calibrate'):
        use_protocols(mask_run.config(data), calibration=alone)
