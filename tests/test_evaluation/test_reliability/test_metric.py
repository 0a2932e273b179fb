"""The confidence of masks: against loops over pixels, and as a run gives it."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from localization_samples import CLASSES, make_protocol_sample
from mmseg_more.evaluation import ReliabilityMetric
from mmseg_more.masks import Calibration, MapThreshold, MaskRecipe
from mmseg_more.models.structures import LocalizationRequest
from scripts import load_script

REQUEST = LocalizationRequest(('lam',), (1.0,), (1.0,), (1.0, 0.5), (1.0, 1.25))
OPTIONS = dict(bkg=0.4, scales=(1.0, 0.5))


def make_metric(sources=('lam',), request=REQUEST, **options):
    metric = ReliabilityMetric(sources, **{**OPTIONS, **options})
    metric.localization_request = request
    metric.dataset_meta = dict(classes=CLASSES)
    return metric


def samples(folder, number=4):
    return [make_protocol_sample(i, folder).to_dict() for i in range(number)]


def scored(metric, given):
    metric.process(None, given)
    return metric.evaluate(len(given))


def by_hand(sample, bkg=0.4):
    """Confidence, right, mask and truth of the pixels that count; loops."""
    maps, truth = sample['lam_ms']['data'], sample['gt_sem_seg']['data'][0]
    present = sample['gt_score'].nonzero().flatten().tolist()
    rows = []
    for i in range(truth.shape[0]):
        for j in range(truth.shape[1]):
            values = {k: float(maps[k, i, j]) for k in present}
            best = max(values, key=values.get) if values else None
            label = best + 1 if values and values[best] > bkg else 0
            if label:
                confidence = 0.5 + 0.5 * (values[best] - bkg) / (1 - bkg)
            else:
                confidence = 1 - 0.5 * values[best] / bkg if values else 1.0
            if truth[i, j] != 255:
                rows.append(
                    (confidence, label == int(truth[i, j]), label, int(truth[i, j]))
                )
    return rows


def confidence_of_all(sample):
    """Of all pixels, those that do not count included."""
    sample = dict(sample, gt_sem_seg=dict(data=torch.zeros(1, 12, 9)))
    return [row[0] for row in by_hand(sample)]


def test_figures_are_those_of_loops(tmp_path):
    given = samples(tmp_path)
    found = scored(make_metric(), given)
    rows = [by_hand(sample) for sample in given]
    pixels = [row for image in rows for row in image]

    def ece(pixels):
        total = 0.0
        for index in range(16):
            inside = [p for p in pixels if min(int(p[0] * 16), 15) == index]
            total += abs(sum(p[0] for p in inside) - sum(p[1] for p in inside))
        return 100 * total / len(pixels)

    # confidence is float32 there, double here
    assert found['lam/ECE'] == pytest.approx(ece(pixels), abs=1e-3)
    shown = [p for p in pixels if p[2]]
    assert found['lam/ECE_foreground'] == pytest.approx(ece(shown), abs=1e-3)
    brier = np.mean([(p[0] - p[1]) ** 2 for p in pixels])
    assert found['lam/Brier'] == pytest.approx(brier, abs=1e-5)
    errors = []
    for image in rows:
        labels = {p[2] for p in image} | {p[3] for p in image}
        ious = [
            sum(p[2] == p[3] == label for p in image)
            / sum(label in (p[2], p[3]) for p in image)
            for label in labels
        ]
        errors.append(1 - np.mean(ious))
    assert found['lam/AURC_random'] == pytest.approx(100 * np.mean(errors))
    assert found['lam/AURC_ideal'] <= found['lam/AURC'] <= 100 * max(errors)
    mean = [sum(float(c) for c in confidence_of_all(sample)) / 108 for sample in given]
    order = sorted(range(len(given)), key=lambda i: -mean[i])
    risks = [np.mean([errors[i] for i in order[: n + 1]]) for n in range(len(given))]
    assert found['lam/AURC_mean'] == pytest.approx(100 * np.mean(risks))


def test_segmentation_of_any_segmentor(tmp_path):
    """Without MoRe's request: the prediction, and its own softmax."""
    sample = make_protocol_sample(0, tmp_path)
    sample.seg_logits = PixelData(data=sample.seg_logits_ms.data)
    sample.pred_sem_seg = PixelData(data=sample.seg_logits.data.argmax(0, keepdim=True))
    for name in ('gt_score', 'pred_score'):  # image labels are MoRe's alone
        sample.pop(name)
    metric = ReliabilityMetric(('seg',))
    metric.dataset_meta = dict(classes=CLASSES)
    found = scored(metric, [sample.to_dict()])
    truth, pred = sample.gt_sem_seg.data[0], sample.pred_sem_seg.data[0]
    valid = truth != 255
    gap = sample.seg_logits.data.softmax(0).amax(0) - (truth == pred).float()
    assert found['seg/bias'] == pytest.approx(100 * gap[valid].mean().item(), abs=1e-3)
    sample.set_data(dict(gt_score=torch.ones(3)))
    with pytest.raises(ValueError, match="source='lam' needs the segmentor MoRe"):
        make_metric(request=None, scales=None).process(None, [sample.to_dict()])


def test_image_in_which_nothing_counts_is_left_out(tmp_path):
    given = samples(tmp_path)
    expected = scored(make_metric(), given[:3])
    given[3]['gt_sem_seg']['data'][:] = 255
    assert scored(make_metric(), given) == expected
    alone = scored(make_metric(), given[3:])
    assert all(math.isnan(value) for value in alone.values())


def test_json_holds_figures_and_diagrams(tmp_path):
    path = tmp_path / 'figures.json'
    given = samples(tmp_path, 5)
    metric = make_metric(('lam', 'seg'), out_json=str(path), crf=True, num_workers=0)
    metric.localization_request = REQUEST._replace(seg_scales=(1.0, 0.5))
    found = scored(metric, given)
    written = json.loads(path.read_text())
    assert {key: written[key] for key in found} == pytest.approx(found)
    assert written['num_images'] == 5
    assert written['calibrated'] == dict(lam=False, seg=False)
    order = written['rejection']['lam']
    assert order['rejected'] == [0, 0.2, 0.4, 0.6, 0.8]
    assert order['error'][0] == pytest.approx(order['random'], abs=1e-6)
    assert order['aurc'] == pytest.approx(np.mean(order['error']), abs=1e-5)
    assert len(written['reliability']['seg']['pixels']['accuracy']) == 16
    recipe = MaskRecipe(source='lam', scales=(1.0, 0.5), crf=True).resolve(True, True)
    expected = json.loads(json.dumps(recipe.settings()))
    assert written['settings']['lam'] == expected


def test_curves_are_fitted_and_taken(tmp_path):
    """Into a file that has thresholds, which make the masks and stay."""
    path = tmp_path / 'c.json'
    thresholds = dict(ms=dict(lam=MapThreshold(0.3, {'star': 0.6})))
    Calibration(thresholds).save(path)
    given = samples(tmp_path, 5)

    def run(**options):
        options = dict(
            crf=True, num_workers=0, out_json=str(tmp_path / 'f.json'), **options
        )
        metric = make_metric(('lam', 'seg'), **options)
        metric.localization_request = REQUEST._replace(seg_scales=(1.0, 0.5))
        return scored(metric, given), json.loads((tmp_path / 'f.json').read_text())

    raw, _ = run(calibration=str(path), curves_file=str(path))
    file = Calibration.load(path)
    assert file.thresholds == thresholds and set(file.confidence) == {'lam', 'seg'}
    settings = file.confidence['lam'].settings
    assert settings['class_bkg'] == dict(circle=0.3, square=0.3, star=0.6)
    assert settings['background'] == 'calibrated'
    calibrated, written = run(calibration=str(path))
    assert written['calibrated'] == dict(lam=True, seg=True)
    # with its own curves there is nothing left between confidence and truth, but for bins
    for source in ('lam', 'seg'):
        for name in ('ECE', 'ECE_foreground'):
            assert calibrated[f'{source}/{name}'] < 1e-3 < raw[f'{source}/{name}']
        assert abs(calibrated[f'{source}/image_bias']) < 1e-3
        assert calibrated[f'{source}/AURC_random'] == raw[f'{source}/AURC_random']
    before = path.read_text()
    again, written = run(calibration=str(path), curves_file=str(path))  # not on top of them
    assert again == raw and path.read_text() == before
    assert written['calibrated'] == dict(lam=False, seg=False)
    new = tmp_path / 'new.json'
    run(curves_file=str(new))
    assert not Calibration.load(new).thresholds and set(Calibration.load(new).confidence)
    (tmp_path / 'torn.json').write_text('{')
    with pytest.raises(ValueError, match='not valid JSON'):
        ReliabilityMetric(curves_file=str(tmp_path / 'torn.json'))


@pytest.mark.parametrize('label', [0, 1])
def test_masks_that_show_background_or_classes_alone(tmp_path, label):
    """One curve of their pixels is left."""
    path = tmp_path / 'c.json'
    sample = make_protocol_sample(0, tmp_path)
    sample.seg_logits = PixelData(data=sample.seg_logits_ms.data)
    shown = torch.full_like(sample.gt_sem_seg.data, label)
    sample.pred_sem_seg = PixelData(data=shown)
    for name in ('gt_score', 'pred_score'):
        sample.pop(name)
    metric = ReliabilityMetric(('seg',), curves_file=str(path))
    metric.dataset_meta = dict(classes=CLASSES)
    scored(metric, [sample.to_dict()])
    assert Calibration.load(path).confidence['seg'].foreground is None


def test_a_failing_crf_ends_the_run(tmp_path, monkeypatch):
    from mmseg_more.masks import pool

    def fail(*args):
        raise ValueError('no kernel')

    monkeypatch.setattr(pool, 'dense_crf_mask', fail)
    metric = make_metric(crf=True, num_workers=0)
    with pytest.raises(RuntimeError, match=r'0\.png.*no kernel.*repair'):
        metric.process(None, samples(tmp_path, 1))
    assert not metric.results and not metric._makers


def test_wrong_options_are_refused():
    for options, message in (
        (dict(sources='lam'), 'sources must be'),
        (dict(sources=('attention',)), 'sources must be'),
        (dict(num_bins=15), 'divisor of 256'),
        (dict(source='lam'), 'sources='),
    ):
        with pytest.raises(ValueError, match=message):
            ReliabilityMetric(**options)
    with pytest.raises(ValueError, match='no image was evaluated'):
        make_metric().evaluate(0)
    with pytest.raises(ValueError, match='masks need'):
        make_metric(request=REQUEST._replace(ms_scales=(1.0,))).process(None, [{}])


@pytest.mark.parametrize('file', ['good', 'bad', 'missing'])
def test_picture(tmp_path, repo_root, capsys, file):
    module = load_script(repo_root / 'tools/analysis/plot_reliability.py')
    scored(make_metric(out_json=str(tmp_path / 'good')), samples(tmp_path))
    (tmp_path / 'bad').write_text('{"lam/mIoU": 3}')
    out = tmp_path / 'out.png'
    arguments = [str(tmp_path / file), str(out)]
    if file == 'good':
        assert module.main(arguments) == 0
        assert cv2.imread(str(out)).std() > 0 and out.stat().st_size < 60_000
    else:
        with pytest.raises(SystemExit) as ending:
            module.main(arguments)
        assert ending.value.code == 2 and not out.exists()
        assert 'error:' in capsys.readouterr().err
