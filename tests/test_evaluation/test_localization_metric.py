import json
import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from PIL import Image
from torch.testing import assert_close

from localization_samples import CLASSES, MAPS, K, make_sample
from localization_samples import evaluate as evaluate_all
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


def test_table_and_json(tmp_path, shown):
    samples = [make_sample(i, maps=(*MAPS, 'attention')) for i in range(3)]
    for sample in samples:  # 'star' never occurs
        sample.gt_sem_seg.data[sample.gt_sem_seg.data == 3] = 0
        sample.gt_score[2] = 0
    path = tmp_path / 'new' / 'metrics.json'
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
    """That another image has."""
    sample = make_sample(3)
    delattr(sample, field)
    with pytest.raises(KeyError, match=f'{field}.*3.jpg.*{remedy}'):
        evaluate([make_sample(0), sample])


@pytest.fixture
def shown(monkeypatch):
    """What the metric logs."""
    lines = []
    monkeypatch.setattr(
        'mmseg_more.evaluation.localization_metric.print_log',
        lambda text, *_: lines.append(text),
    )
    return lines


def without(samples, *fields):
    for sample in samples:
        for field in fields:
            delattr(sample, field)
    return samples


def test_segmentor_without_scores_of_images(shown):
    """A model that predicts no score, on images that have labels."""
    expected = evaluate([make_sample(i) for i in range(3)])
    metrics = evaluate(without([make_sample(i) for i in range(3)], 'pred_score'))
    assert metrics == {k: v for k, v in expected.items() if not k.startswith('cls/')}
    assert 'leaves out the figures of image labels: ' in shown[-1]
    assert 'no "pred_score"; use a model that predicts it' in shown[-1]


def test_images_without_labels(shown, tmp_path):
    """Maps need them as well."""
    path = tmp_path / 'metrics.json'
    expected = evaluate([make_sample(i) for i in range(3)])
    samples = without([make_sample(i) for i in range(3)], 'gt_score', 'pred_score')
    metrics = evaluate(samples, out_json=str(path))
    assert metrics == {k: v for k, v in expected.items() if k.startswith('seg/')}
    assert any(
        'image labels and maps: the data samples have no "gt_score"' in s for s in shown
    )
    assert set(metrics) <= set(json.loads(path.read_text()))


def test_classes_without_a_background(shown):
    """Of any data set of MMSegmentation, with a model of MMSegmentation."""
    samples = [make_sample(i, maps=()) for i in range(3)]
    expected = evaluate(samples)
    metric = LocalizationMetric()
    metric.dataset_meta = dict(classes=('road', *CLASSES[1:]))
    samples = without(samples, 'gt_score', 'pred_score')
    metric.process(None, [sample.to_dict() for sample in samples])
    assert metric.evaluate(3)['seg/mIoU'] == expected['seg/mIoU']


def test_what_images_have_is_forgotten_between_evaluations():
    metric = LocalizationMetric()
    metric.dataset_meta = dict(classes=CLASSES)
    keys = []
    for sample in (
        make_sample(0),
        *without([make_sample(0)], 'pred_score'),
        make_sample(0),
    ):
        metric.process(None, [sample.to_dict()])
        keys.append('cls/F1' in metric.evaluate(1))
    assert keys == [True, False, True]


# ------------------------------------------------------------- as IoUMetric
def test_averages_as_iou_metric():
    samples = [make_sample(i) for i in range(8)]
    for sample in samples:  # 'star' is in no truth, and predicted
        sample.gt_sem_seg.data[sample.gt_sem_seg.data == 3] = 0
    assert any((sample.pred_sem_seg.data == 3).any() for sample in samples)
    expected = evaluate_all(dict(type='IoUMetric'), samples)['mIoU']
    found = evaluate(samples, absent_classes='zero')
    # IoUMetric rounds to two digits
    assert found['seg/mIoU'] == pytest.approx(expected, abs=0.0051)
    assert evaluate(samples)['seg/mIoU'] == pytest.approx(found['seg/mIoU'] * 4 / 3)
    assert evaluate(samples) == evaluate(samples, absent_classes='skip')


def test_absent_class_of_a_map():
    """In the sweep too: a map that shows a class which is in no truth."""
    sample = make_sample(0)
    sample.gt_score = torch.ones(K)
    sample.gt_sem_seg.data[sample.gt_sem_seg.data == 3] = 0
    skipped, counted = evaluate([sample]), evaluate([sample], absent_classes='zero')
    for key in ('mIoU', 'mIoU_best'):
        assert counted[f'lam/{key}'] < skipped[f'lam/{key}']


def test_predictions_are_written_as_by_iou_metric(tmp_path):
    samples = [make_sample(i) for i in range(3)]
    folders = tmp_path / 'new' / 'ours', tmp_path / 'theirs'
    # keep_results is what MMSegmentation's test.py sets with output_dir
    metrics = evaluate(samples, output_dir=str(folders[0]), keep_results=True)
    assert metrics == evaluate(samples)
    evaluate_all(dict(type='IoUMetric', output_dir=str(folders[1])), samples)
    written = [
        {path.name: np.asarray(Image.open(path)).tolist() for path in folder.iterdir()}
        for folder in folders
    ]
    assert written[0] == written[1] and set(written[0]) == {'0.png', '1.png', '2.png'}


@pytest.mark.parametrize(
    'image_ids, names',
    [
        (['cat/1', 'dog/1'], ['cat/1.png', 'dog/1.png']),
        (['0001', 'deep/er/v1.2'], ['1.png', 'deep/er/1.png']),  # the ID is not the stem
        (['../1', ''], ['1.png']),  # none that leads out of the folder
        (['/a/1', '/b/1'], ['1.png']),
    ],
)
def test_images_in_subfolders_keep_their_predictions(tmp_path, image_ids, names):
    samples = [make_sample(1, maps=()) for _ in image_ids]
    for sample, image_id in zip(samples, image_ids):
        sample.set_metainfo(dict(img_id=image_id))
    evaluate(samples, output_dir=str(tmp_path / 'a'))
    written = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert sorted(str(path.relative_to(tmp_path / 'a')) for path in written) == names


def test_labels_whose_zero_the_data_set_leaves_out(tmp_path):
    sample = make_sample(0, maps=())
    sample.set_metainfo(dict(reduce_zero_label=True))
    evaluate([sample], output_dir=str(tmp_path))
    written = np.asarray(Image.open(tmp_path / '0.png'))
    assert (written == sample.pred_sem_seg.data[0].numpy() + 1).all()


def test_format_only(tmp_path, shown):
    """No truth, no scores, no classes are needed."""
    samples = [make_sample(i, maps=()) for i in range(3)]
    without(samples, 'gt_sem_seg', 'gt_score', 'pred_score')
    assert evaluate(samples, output_dir=str(tmp_path), format_only=True) == {}
    assert len([*tmp_path.iterdir()]) == 3
    assert shown == [f'3 predictions are in {tmp_path}']


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
    with pytest.raises(ValueError, match="absent_classes must be one of.*'none'"):
        LocalizationMetric(absent_classes='none')
    with pytest.raises(ValueError, match='it needs `output_dir`'):
        LocalizationMetric(format_only=True)
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
