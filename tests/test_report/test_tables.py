import pytest
import torch

from mmseg_more.report.class_table import class_columns
from mmseg_more.report.confusion_table import confusion_table
from report_samples import make_report, make_seen


def columns_of(images):
    figures, _ = make_report(images)
    return {column.title: column.values for column in class_columns(figures)}


def test_columns_with_truth():
    columns = columns_of([make_seen('a', right=1.0), make_seen('b', 1, right=1.0)])
    assert list(columns) == [
        'images labelled',
        'images that show it',
        'pixels %',
        'confidence %',
        'LAM IoU %',
        'prediction IoU %',
        'prediction precision %',
        'prediction recall %',
    ]
    assert columns['images labelled'] == [None, 2, 2]
    assert columns['images that show it'] == [2, 2, 2]
    assert sum(columns['pixels %']) == pytest.approx(100)
    assert columns['prediction recall %'] == [100, 100, 100]


def test_columns_without_truth_and_labels():
    labels = {'prediction': torch.zeros(12, 16, dtype=torch.long)}
    seen = make_seen('a', with_truth=False, with_labels=False, labels=labels)
    columns = columns_of([seen])
    assert list(columns) == ['images that show it', 'pixels %', 'confidence %']
    assert columns['confidence %'] == [50, None, None]


def test_label_precision_has_no_background():
    score = torch.tensor([0.9, 0.1])
    columns = columns_of([make_seen('a', pred_score=score)])
    assert columns['label AP %'] == [None, 100, 100]


def test_a_class_of_no_truth_has_no_iou():
    seen = make_seen('a')
    columns = columns_of([seen._replace(truth=seen.truth.clamp(max=1))])
    assert columns['prediction IoU %'][2] is None


def test_confusion():
    table = confusion_table(torch.tensor([[8, 2, 0], [0, 0, 0], [3, 1, 0]]), 'abc')
    assert table.rows == [[80, 20, 0], [None] * 3, [75, 25, 0]]
    assert table.largest == [('c', 'a', 75), ('c', 'b', 25), ('a', 'b', 20)]


def test_confusion_of_many_classes_is_a_list():
    matrix = torch.eye(81, dtype=torch.long)
    matrix[5, 7] = 1
    table = confusion_table(matrix, [f'c{i}' for i in range(81)])
    assert table.rows is None
    assert table.largest == [('c5', 'c7', 50)]
