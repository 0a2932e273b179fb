import json
import math

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from torch.testing import assert_close

from localization_samples import CLASSES, MAPS, K, make_sample
from mmseg_more.evaluation import LocalizationMetric
from mmseg_more.evaluation.functional import confusion_matrix, mean_iou
from mmseg_more.localization import maps_to_labels

from mmseg.registry import METRICS


def evaluate(samples, batch_size=2, **kwargs):
    evaluator = Evaluator(METRICS.build(dict(type='LocalizationMetric', **kwargs)))
    evaluator.dataset_meta = dict(classes=CLASSES)
    for start in range(0, len(samples), batch_size):
        evaluator.process(samples[start : start + batch_size])
    return evaluator.evaluate(len(samples))


def direct_miou(samples, name, threshold):
    """By the definition: a label map of every image, then one matrix."""
    confusion = 0
    for sample in samples:
        pred = sample.pred_sem_seg.data
        if name != 'seg':
            pred = maps_to_labels(
                sample.get(name).data[None], sample.gt_score[None], threshold
            )
        confusion = confusion + confusion_matrix(pred, sample.gt_sem_seg.data, K + 1)
    return 100 * mean_iou(confusion)


def test_figures_and_keys():
    samples = [make_sample(i, (10 + i, 13)) for i in range(5)]
    metrics = evaluate(samples, bkg=dict(cam=0.3, lam=0.45))
    for name, threshold in dict(seg=None, cam=0.3, lam=0.45, fused=0.5).items():
        assert metrics[f'{name}/mIoU'] == pytest.approx(
            direct_miou(samples, name, threshold)
        )
    for name in MAPS:
        sweep = {t / 100: direct_miou(samples, name, t / 100) for t in range(5, 100, 5)}
        assert metrics[f'{name}/mIoU_best'] == pytest.approx(max(sweep.values()))
        assert sweep[metrics[f'{name}/best_threshold']] == pytest.approx(
            max(sweep.values())
        )
        assert metrics[f'{name}/mIoU_best'] >= metrics[f'{name}/mIoU']
    figures = ('mIoU', 'precision', 'recall', 'confusion_ratio')
    swept = ('mIoU_best', 'best_threshold')
    assert set(metrics) == {
        'cls/F1',
        'cls/mAP',
        *(f'seg/{f}' for f in figures),
        *(f'{name}/{f}' for name in MAPS for f in figures + swept),
    }
    # everything in percent but ratios and thresholds
    assert 1 < metrics['seg/precision'] <= 100
    assert 1 < metrics['cls/F1'] <= 100 and 1 < metrics['cls/mAP'] <= 100


def test_one_threshold_outside_the_sweep():
    samples = [make_sample(i) for i in range(3)]
    metrics = evaluate(samples, bkg=0.123, thresholds=[0.5])
    assert metrics['lam/mIoU'] == pytest.approx(direct_miou(samples, 'lam', 0.123))


def test_only_classes_of_the_image_label_count():
    sample = make_sample(0)
    sample.gt_score = torch.zeros(K)
    metrics = evaluate([sample])
    background = (sample.gt_sem_seg.data == 0).sum()
    valid = (sample.gt_sem_seg.data != 255).sum()
    occurs = sample.gt_sem_seg.data.unique().numel() - 1  # without 255
    for name in MAPS:  # every pixel is background
        assert metrics[f'{name}/mIoU'] == pytest.approx(
            100 * (background / valid).item() / occurs
        )


def test_batch_size_and_repeated_use_change_nothing():
    samples = [make_sample(i) for i in range(5)]
    metric = LocalizationMetric()
    metric.dataset_meta = dict(classes=CLASSES)
    results = []
    for batch_size in (1, 2, 5):
        for start in range(0, 5, batch_size):
            batch = samples[start : start + batch_size]
            metric.process(None, [sample.to_dict() for sample in batch])
        results.append(metric.evaluate(5))
    assert results[0] == results[1] == results[2]


def test_segmentation_alone():
    metrics = evaluate([make_sample(i, maps=()) for i in range(2)])
    assert {key.split('/')[0] for key in metrics} == {'seg', 'cls'}


def test_table_and_json(tmp_path, monkeypatch):
    samples = [make_sample(i, maps=(*MAPS, 'attention')) for i in range(3)]
    for sample in samples:  # 'star' never occurs
        sample.gt_sem_seg.data[sample.gt_sem_seg.data == 3] = 0
        sample.gt_score[2] = 0
    path = tmp_path / 'new' / 'metrics.json'
    shown = []
    monkeypatch.setattr(
        'mmseg_more.evaluation.localization_metric.print_log',
        lambda text, logger: shown.append(text),
    )
    metrics = evaluate(samples, out_json=str(path))
    table = '\n'.join(shown)
    rows = {
        line.split('|')[1].strip(): [c.strip() for c in line.split('|')[2:-1]]
        for line in table.splitlines()
        if line.startswith('|')
    }
    assert rows['class'] == ['CAM', 'LAM', 'fused', 'attention', 'segmentation']
    assert rows['star'] == ['-'] * 5
    assert rows['mIoU'][1] == f'{metrics["lam/mIoU"]:.2f}'
    assert rows['threshold'] == ['0.50'] * 4 + ['-']
    assert shown[-1] == (
        f'image labels: F1 {metrics["cls/F1"]:.2f}, mAP {metrics["cls/mAP"]:.2f}'
    )

    written = json.loads(path.read_text())
    assert {k: v for k, v in written.items() if k.count('/') == 1} == metrics
    assert written['lam/IoU/circle'] == pytest.approx(float(rows['circle'][1]), abs=0.005)
    assert 'seg/IoU/star' in written
    assert [p.name for p in path.parent.iterdir()] == ['metrics.json']


def test_undefined_figures_are_null_in_json(tmp_path):
    sample = make_sample(0)
    sample.gt_sem_seg.data[:] = 255
    sample.gt_score[:] = 0
    path = tmp_path / 'metrics.json'
    metrics = evaluate([sample], out_json=str(path))
    assert math.isnan(metrics['lam/mIoU'])
    assert math.isnan(metrics['cls/mAP'])
    assert json.loads(path.read_text())['lam/mIoU'] is None


@pytest.mark.parametrize(
    'field, remedy',
    [
        ('gt_sem_seg', 'LoadAnnotations'),
        ('gt_score', 'image-level data set'),
        ('pred_score', 'segmentor "MoRe"'),
    ],
)
def test_missing_field(field, remedy):
    sample = make_sample(3)
    delattr(sample, field)
    with pytest.raises(KeyError, match=f'{field}.*3.jpg.*{remedy}'):
        evaluate([sample])


def test_sizes_and_labels_that_do_not_fit():
    sample = make_sample(1)
    sample.lam = PixelData(data=torch.rand(K, 12, 9)[:, :10])
    with pytest.raises(ValueError, match=r'"lam" of 1.jpg.*\(3, 10, 9\)'):
        evaluate([sample])
    sample = make_sample(1)
    sample.cam = PixelData(data=torch.rand(K + 2, 12, 9))
    with pytest.raises(ValueError, match=r'"cam".*expected \(3, 12, 9\)'):
        evaluate([sample])
    sample = make_sample(1)
    sample.gt_score = torch.ones(K + 1)
    with pytest.raises(ValueError, match='"gt_score"'):
        evaluate([sample])
    sample = make_sample(1)
    sample.gt_sem_seg.data[0, 3, 3] = 7
    with pytest.raises(ValueError, match=r'gt_sem_seg.*\[7\].*0..3'):
        evaluate([sample])
    sample.gt_sem_seg.data[0, 3, 3] = 0
    sample.pred_sem_seg.data[0, 3, 3] = 255
    with pytest.raises(ValueError, match=r'pred_sem_seg.*\[255\]'):
        evaluate([sample])


def of_labelled_classes(sample):
    """The sample as LocalizationHook(policy='image-labels') makes it."""
    sample = sample.clone()
    indices = sample.gt_score.nonzero().flatten()
    sample.set_field(indices, 'map_indices')
    for name in MAPS:
        sample.set_field(PixelData(data=sample.get(name).data[indices]), name)
    return sample


def test_maps_of_the_labelled_classes_are_enough():
    samples = [make_sample(i, (10 + i, 13)) for i in range(6)]
    samples[3].gt_score.zero_()  # and no map at all
    expected = evaluate(samples, bkg=dict(cam=0.3, lam=0.0))
    some = [of_labelled_classes(sample) for sample in samples]
    assert some[3].lam.data.shape == (0, 13, 13)
    assert evaluate(some, bkg=dict(cam=0.3, lam=0.0)) == expected


def test_maps_of_predicted_classes():
    """A class that was not predicted, or is none of the image's labels, cannot win."""
    sample = make_sample(1)
    sample.gt_score = torch.tensor([1.0, 0.0, 1.0])
    for name in MAPS:
        sample.get(name).data[0] = 0  # as if it were not there
    expected = evaluate([sample])
    sample.set_field(torch.tensor([1, 2]), 'map_indices')
    for name in MAPS:
        sample.set_field(PixelData(data=sample.get(name).data[1:]), name)
    assert evaluate([sample]) == expected
    sample.set_field(torch.tensor([2]), 'map_indices')
    with pytest.raises(ValueError, match=r'"cam".*expected \(1, 12, 9\)'):
        evaluate([sample])


def test_bad_arguments():
    with pytest.raises(ValueError, match='unknown maps.*lamm'):
        LocalizationMetric(bkg=dict(lamm=0.5))
    with pytest.raises(ValueError, match=r'\[0, 1\), got 1.5'):
        LocalizationMetric(bkg=1.5)
    metric = LocalizationMetric()
    metric.dataset_meta = dict(classes=CLASSES[1:])
    with pytest.raises(ValueError, match='"background" first'):
        metric.process(None, [make_sample(0).to_dict()])


def test_multi_label_metric_reads_the_same_samples():
    from mmpretrain.evaluation import MultiLabelMetric

    samples = [make_sample(i) for i in range(4)]
    evaluator = Evaluator(MultiLabelMetric(average=None, items=('recall',)))
    evaluator.process(samples)
    recall = evaluator.evaluate(4)['multi-label/recall_classwise']
    truth = torch.stack([s.gt_score for s in samples])
    pred = torch.stack([s.pred_score for s in samples]) >= 0.5
    assert_close(torch.tensor(recall), 100 * (pred * truth).sum(0) / truth.sum(0))
