from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from mmseg_more.evaluation.functional import (
    average_precision,
    confusion_at_thresholds,
    confusion_matrix,
    default_thresholds,
    image_f1,
    mean_iou,
    segmentation_figures,
    threshold_histogram,
)
from strategies import label_maps, sizes, tensors, unit_floats

GOLDEN = Path(__file__).parents[1] / 'data' / 'ops.npz'


def test_figures_match_the_official_code():
    with np.load(GOLDEN) as golden:
        golden = {
            key[7:]: torch.from_numpy(np.asarray(golden[key]))
            for key in golden.files
            if key.startswith('metric.')
        }
    confusion = confusion_matrix(golden['pred'], golden['gt'], 21)
    assert confusion.sum() == (golden['gt'] != 255).sum()
    figures = segmentation_figures(confusion)
    for ours, name in (
        (figures.iou, 'iou'),
        (figures.precision, 'precision'),
        (figures.recall, 'recall'),
        (figures.confusion_ratio, 'confusion'),
    ):
        assert_close(ours, golden[name], rtol=1e-5, atol=0)
    assert mean_iou(confusion) == pytest.approx(golden['miou'].item(), rel=1e-5)


def test_rows_are_the_truth():
    confusion = confusion_matrix(
        torch.tensor([1, 1, 2, 0]), torch.tensor([0, 1, 255, 2]), 3
    )
    assert confusion.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_absent_and_missed_labels():
    # truth: 3 x label 0, 2 x label 1; label 2 is absent but predicted once,
    # label 1 is never right, label 3 appears nowhere
    truth = torch.tensor([0, 0, 0, 1, 1])
    pred = torch.tensor([0, 0, 2, 0, 0])
    figures = segmentation_figures(confusion_matrix(pred, truth, 4))
    assert figures.occurs.tolist() == [True, True, False, False]
    nan = torch.nan
    expected = dict(
        iou=[2 / 5, 0, 0, nan],
        precision=[1 / 2, nan, 0, nan],
        recall=[2 / 3, 0, nan, nan],
        confusion_ratio=[1, nan, nan, nan],
    )
    for name, value in expected.items():
        assert_close(
            getattr(figures, name), torch.tensor(value, dtype=torch.float64), equal_nan=True
        )
    assert figures.mean('iou') == pytest.approx(0.2)
    assert figures.mean('precision') == pytest.approx(0.5)
    assert figures.mean('recall') == pytest.approx(1 / 3)
    assert figures.mean('confusion_ratio') == pytest.approx(1)
    counted = segmentation_figures(confusion_matrix(pred, truth, 4), 'zero')
    assert counted.counted.tolist() == [True, True, True, False]
    assert counted.mean('iou') == pytest.approx(0.4 / 3)
    assert counted.mean('precision') == pytest.approx(0.25)
    assert counted.mean('recall') == pytest.approx(1 / 3)
    assert mean_iou(confusion_matrix(pred, truth, 4), 'zero') == counted.mean('iou')
    with pytest.raises(ValueError, match="absent_classes must be one of.*'omit'"):
        segmentation_figures(confusion_matrix(pred, truth, 4), 'omit')


def test_nothing_but_ignored_pixels():
    confusion = confusion_matrix(torch.zeros(4, 4), torch.full((4, 4), 255), 3)
    assert confusion.sum() == 0
    assert np.isnan(mean_iou(confusion))


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_sweep_equals_one_pass_per_threshold(dtype):
    generator = torch.Generator().manual_seed(0)
    num_classes, size = 5, (23, 31)
    # values on the thresholds themselves: `<=` must hold, not `<`
    thresholds = torch.tensor(default_thresholds(), dtype=torch.float64)
    grid = torch.cat([thresholds, torch.tensor([0.0, 1.0])])
    maps = grid[torch.randint(len(grid), (num_classes, *size), generator=generator)].to(
        dtype
    )
    truth = torch.randint(0, num_classes + 1, size, generator=generator)
    truth[0] = 255
    value, label = maps.max(0)
    histogram = threshold_histogram(label, value, truth, thresholds, num_classes)
    matrices = confusion_at_thresholds(histogram)
    assert matrices.dtype == torch.int64
    compared = torch.promote_types(dtype, torch.float32)
    for threshold, matrix in zip(thresholds.to(compared), matrices):
        dense = (label + 1).masked_fill(value.to(compared) <= threshold, 0)
        assert_close(matrix, confusion_matrix(dense, truth, num_classes + 1))


def test_default_thresholds():
    thresholds = default_thresholds()
    assert len(thresholds) == 19
    assert thresholds[0] == 0.05 and thresholds[9] == 0.5
    assert thresholds[-1] == 0.95


def test_image_f1_is_per_image():
    score = torch.tensor([[0.9, 0.8, 0.1], [0.5, 0.6, 0.2], [0.1, 0.2, 0.3]])
    truth = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0]])
    # 1 TP 1 FP; a probability of .5 is a logit of 0, which is not above 0
    assert_close(
        image_f1(score, truth), torch.tensor([2 / 3, 2 / 3, 0], dtype=torch.float64)
    )


def test_image_f1_without_any_class():
    score = torch.tensor([[0.1, 0.1], [0.9, 0.1]])
    assert image_f1(score, torch.zeros(2, 2)).tolist() == [1, 0]


def test_average_precision():
    score = torch.tensor(
        [
            [0.9, 0.8, 0.3, 0.7],
            [0.1, 0.2, 0.2, 0.6],
            [0.7, 0.5, 0.9, 0.5],
            [0.8, 0.1, 0.1, 0.4],
        ]
    )
    truth = torch.tensor([[1.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
    # class 1: the positives rank 1 and 3; class 3 has no positive
    expected = [1, (1 + 2 / 3) / 2, 1, torch.nan]
    assert_close(
        average_precision(score, truth),
        torch.tensor(expected, dtype=torch.float64),
        equal_nan=True,
        rtol=1e-6,
        atol=0,
    )  # computed in float32


def test_average_precision_without_positives():
    assert average_precision(torch.rand(3, 2), torch.zeros(3, 2)).isnan().all()


@st.composite
def predictions(draw):
    """Number of labels, predicted labels and the truth with its ignored pixels."""
    labels, size = draw(st.integers(1, 4)), draw(sizes)
    return (
        labels,
        draw(label_maps(labels, size, ignored=False)),
        draw(label_maps(labels, size)),
    )


@given(predictions(), st.data())
def test_confusion_of_any_pixels(drawn, data):
    labels, pred, truth = drawn
    confusion = confusion_matrix(pred, truth, labels)
    for row in range(labels):
        for column in range(labels):
            count = ((truth == row) & (pred == column)).sum()
            assert confusion[row, column] == count
    # rows of an image in two parts, in any order
    cut = data.draw(st.integers(0, len(pred)))
    parts = [
        confusion_matrix(pred[part], truth[part], labels)
        for part in (slice(cut, None), slice(cut))
    ]
    assert_close(sum(parts), confusion, rtol=0, atol=0)
    turned = confusion_matrix(pred.t(), truth.t(), labels)
    assert_close(turned, confusion, rtol=0, atol=0)


@given(predictions())
def test_figures_of_any_confusion(drawn):
    labels, pred, truth = drawn
    figures = segmentation_figures(confusion_matrix(pred, truth, labels))
    for label in range(labels):
        counted = truth != 255
        found, true = (pred == label) & counted, truth == label
        both, either = (found & true).sum().item(), (found | true).sum().item()
        expected = both / either if either else float('nan')
        assert figures.iou[label].item() == pytest.approx(expected, nan_ok=True)
        assert figures.occurs[label] == true.any()
    for name in ('iou', 'precision', 'recall'):
        values = getattr(figures, name)
        assert (values.isnan() | (0 <= values) & (values <= 1)).all()
    # precision and recall change places with prediction and truth
    swapped = segmentation_figures(confusion_matrix(pred, truth, labels).t())
    assert_close(swapped.precision, figures.recall, equal_nan=True)
    assert_close(swapped.iou, figures.iou, equal_nan=True)


@given(st.data(), st.integers(1, 3), sizes, st.sets(unit_floats, min_size=1, max_size=4))
def test_a_histogram_is_the_confusion_at_each_threshold(data, classes, size, levels):
    maps, truth = (
        data.draw(tensors((classes, *size))),
        data.draw(label_maps(classes + 1, size)),
    )
    thresholds = torch.tensor(sorted(levels))
    value, strongest = maps.max(0)
    histogram = threshold_histogram(strongest, value, truth, thresholds, classes)
    assert histogram.sum() == (truth != 255).sum()
    matrices = confusion_at_thresholds(histogram)
    for threshold, matrix in zip(thresholds, matrices):
        labels = (strongest + 1).masked_fill(value <= threshold, 0)
        assert_close(matrix, confusion_matrix(labels, truth, classes + 1))
    # of an image in two parts
    top, bottom = (
        threshold_histogram(strongest[part], value[part], truth[part], thresholds, classes)
        for part in (slice(1), slice(1, None))
    )
    assert_close(top + bottom, histogram)
