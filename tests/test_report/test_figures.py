import pytest
import torch

from localization_samples import CLASSES, K, make_sample
from mmseg_more.evaluation import LocalizationMetric
from mmseg_more.evaluation.thresholds import MapThresholds
from mmseg_more.report import RunFigures
from report_samples import SIZE, make_report, make_seen


def as_seen(sample):
    """What the page is made of, from a sample that a metric takes."""
    seen = make_seen('')
    truth = sample.gt_sem_seg.data[0]
    return seen._replace(
        image=seen.image[:1, :1].repeat(truth.shape[0], 0).repeat(truth.shape[1], 1),
        gt_score=sample.gt_score,
        pred_score=sample.pred_score,
        truth=truth,
        maps={name: sample.get(name).data for name in ('cam', 'lam')},
        map_indices=torch.arange(K),
        labels={'prediction': sample.pred_sem_seg.data[0]},
    )


def test_figures_are_those_of_the_metric():
    samples = [make_sample(seed) for seed in range(4)]
    metric = LocalizationMetric(bkg=dict(lam=0.4))
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process(None, [sample.to_dict() for sample in samples])
    expected = metric.evaluate(len(samples))
    figures = RunFigures(CLASSES, MapThresholds(dict(lam=0.4)))
    for sample in samples:
        figures.add(as_seen(sample))
    found = figures.segmentation()
    assert list(found) == ['cam', 'lam', 'prediction']
    for name, key in (('cam', 'cam'), ('lam', 'lam'), ('prediction', 'seg')):
        for figure, title in (('iou', 'mIoU'), ('precision', 'precision')):
            assert 100 * found[name].mean(figure) == pytest.approx(
                expected[f'{key}/{title}']
            )
    for curve in figures.curves():
        assert curve.best == expected[f'{curve.name}/best_threshold']
        assert 100 * max(curve.mious) == pytest.approx(expected[f'{curve.name}/mIoU_best'])
        fixed = curve.mious[curve.thresholds.index(curve.fixed)]
        assert 100 * fixed == pytest.approx(expected[f'{curve.name}/mIoU'])
    assert 100 * figures.class_precision().nanmean().item() == pytest.approx(
        expected['cls/mAP']
    )


def test_image_by_hand():
    """8 pixels: one of class 1 is missed, one of class 2 is shown where there is none."""
    truth = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 255]])
    labels = torch.tensor([[0, 0, 0, 2], [1, 1, 0, 2]])
    seen = make_seen('a', truth=truth, labels={'prediction': labels}, maps={})
    seen = seen._replace(image=seen.image[:2, :4])
    figures = RunFigures(('background', 'a', 'b'), MapThresholds())
    image = figures.add(seen)
    assert image.class_ious == pytest.approx({0: 3 / 5, 1: 2 / 3, 2: 0})
    assert image.iou == pytest.approx((3 / 5 + 2 / 3) / 3)
    assert figures.num_pixels.tolist() == [4, 2, 2]
    assert figures.confusion('prediction').tolist() == [[3, 0, 1], [1, 2, 0], [0, 0, 0]]


def test_the_mask_is_judged_and_the_prediction_counted():
    seen = make_seen('a')
    seen = seen._replace(labels={'mask': seen.truth, **seen.labels})
    figures, gallery = make_report([seen])
    assert figures.judged == seen.judged == 'mask'
    assert gallery.cards[0].iou == 1
    assert list(figures.segmentation()) == ['lam', 'mask', 'prediction']


def test_ignored_pixels_of_a_mask_are_not_compared():
    seen = make_seen('a', maps={})
    mask = seen.truth.clone()
    mask[0] = 255
    figures, gallery = make_report([seen._replace(labels={'mask': mask})])
    assert gallery.cards[0].iou == 1
    assert figures.confusion('mask').sum() == mask.numel() - mask.shape[1]


def test_without_truth():
    images = [
        make_seen('a', right=0.2, with_truth=False),
        make_seen('b', right=0.6, with_truth=False, with_labels=False),
    ]
    figures, gallery = make_report(images)
    assert figures.judged == '' and not figures.segmentation() and not figures.curves()
    assert figures.class_precision() is None
    assert figures.mean_confidence() == pytest.approx(0.4)
    assert figures.num_labelled.tolist() == [0, 1, 1]
    assert figures.class_confidence().tolist() == pytest.approx([0.4] * 3)
    assert [card.iou for card in gallery.cards] == [None, None]


def test_all_is_ignored():
    figures, gallery = make_report([make_seen('a', truth=torch.full(SIZE, 255))])
    assert gallery.cards[0].iou is None
    assert figures.segmentation()['prediction'].mean('iou') != 0  # NaN


@pytest.mark.parametrize(
    'fields, message',
    [
        (dict(truth=torch.full(SIZE, 3)), r'truth of x holds labels up to 3, .* 0\.\.2'),
        (dict(truth=torch.zeros(3, 4).long()), r'truth of x has the size \(3, 4\)'),
        (dict(labels={'mask': torch.full(SIZE, 9)}), 'mask of x holds labels up to 9'),
    ],
)
def test_what_does_not_fit(fields, message):
    with pytest.raises(ValueError, match=message):
        make_report([make_seen('x', **fields)])
