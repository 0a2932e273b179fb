import math

import numpy as np
import pytest
import torch

from localization_samples import CLASSES, K, evaluate, labelled_sample, make_sample
from mmseg_more.evaluation.classwise.boundary_iou import boundary_distance, mask_boundary
from mmseg_more.localization import maps_to_labels

KEY = 'seg/boundary_mIoU'


def boundary_by_loops(mask, distance):
    """A pixel whose neighbourhood leaves the mask, or the image."""
    height, width = mask.shape
    found = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for i in range(y - distance, y + distance + 1):
                for j in range(x - distance, x + distance + 1):
                    inside = 0 <= i < height and 0 <= j < width and mask[i, j]
                    found[y, x] |= mask[y, x] and not inside
    return found


def boundary_iou_by_loops(pairs, num_labels, ratio, labels=None):
    """Of pairs (prediction, truth), the mean over the labels that occur."""
    ious = []
    for label in range(num_labels) if labels is None else labels:
        both = union = occurs = 0
        for pred, truth in pairs:
            height, width = truth.shape
            distance = max(1, int(round(ratio * np.sqrt(height**2 + width**2))))
            true = boundary_by_loops(truth == label, distance)
            predicted = boundary_by_loops((pred == label) & (truth != 255), distance)
            both += (true & predicted).sum()
            union += (true | predicted).sum()
            occurs += (truth == label).sum()
        if occurs:
            ious.append(both / union)
    return 100 * float(np.mean(ious))


def blobs(seed, size, num_labels=K + 1):
    """Labels in blocks, so that there are insides; some pixels to ignore."""
    rng = np.random.default_rng(seed)
    small = rng.integers(num_labels, size=(-(-size[0] // 5), -(-size[1] // 5)))
    truth = np.kron(small, np.ones((5, 5), np.int64))[: size[0], : size[1]]
    pred = np.roll(truth, 2, 1)
    pred[rng.random(size) < 0.05] = 1
    truth = truth.copy()
    truth[rng.random(size) < 0.02] = 255
    truth[:, -3:] = 255
    return pred, truth


@pytest.mark.parametrize('size', [(13, 22), (1, 9), (6, 1)])
@pytest.mark.parametrize('distance', [1, 2, 4])
def test_boundary_of_a_mask(size, distance):
    rng = np.random.default_rng(0)
    for density in (0.0, 0.8, 0.97, 1.0):
        mask = rng.random(size) < density
        expected = boundary_by_loops(mask, distance)
        np.testing.assert_array_equal(mask_boundary(mask, distance), expected)


def test_distance_is_two_percent_of_the_diagonal():
    assert boundary_distance((300, 400)) == 10
    assert boundary_distance((10, 10)) == 1
    assert boundary_distance((300, 400), 0.005) == 2  # 2.5 to even, as the reference


@pytest.mark.parametrize('ratio', [0.02, 0.1])
def test_is_the_formula(ratio):
    pairs = [blobs(i, (17 + 3 * i, 26)) for i in range(3)]
    samples = [labelled_sample(truth, pred) for pred, truth in pairs]
    metric = dict(type='BoundaryIoUMetric', dilation_ratio=ratio)
    expected = boundary_iou_by_loops(pairs, K + 1, ratio)
    assert evaluate(metric, samples) == {KEY: pytest.approx(expected)}
    assert 5 < expected < 95
    metric['background'] = False
    expected = boundary_iou_by_loops(pairs, K + 1, ratio, range(1, K + 1))
    assert evaluate(metric, samples) == {KEY: pytest.approx(expected)}


def test_by_hand():
    """Squares of 4 x 4 pixels, one column apart; outlines of 12 pixels, 6 in common."""
    truth = np.zeros((10, 12), np.int64)
    pred = truth.copy()
    truth[2:6, 2:6] = pred[2:6, 3:7] = 1
    sample = labelled_sample(truth, pred)
    metric = dict(type='BoundaryIoUMetric', background=False)
    assert evaluate(metric, [sample])[KEY] == pytest.approx(100 * 6 / 18)
    # the mean is of sums over the images, not of images
    right = labelled_sample(truth, truth)
    assert evaluate(metric, [sample, right])[KEY] == pytest.approx(100 * 18 / 30)


def test_image_border_is_outline():
    """A class all over an image of 5 x 8 pixels: 22 pixels at the border."""
    truth = np.ones((5, 8), np.int64)
    pred = truth.copy()
    pred[0, 0] = 0  # one of them, and the pixel inside becomes one
    metric = dict(type='BoundaryIoUMetric')
    value = evaluate(metric, [labelled_sample(truth, pred)])[KEY]
    assert value == pytest.approx(100 * 21 / 23)


def test_what_is_ignored_does_not_count():
    pred, truth = blobs(0, (20, 30))
    right = np.where(truth == 255, 0, truth)
    metric = dict(type='BoundaryIoUMetric')
    assert evaluate(metric, [labelled_sample(truth, right)])[KEY] == 100
    value = evaluate(metric, [labelled_sample(truth, pred)])[KEY]
    other = np.where(truth == 255, (pred + 1) % (K + 1), pred)
    assert evaluate(metric, [labelled_sample(truth, other)])[KEY] == value
    truth = truth.copy()
    truth[truth == 255] = 200
    metric['ignore_index'] = 200
    assert evaluate(metric, [labelled_sample(truth, pred)])[KEY] == value


def test_classes_that_do_not_occur():
    truth = np.zeros((9, 7), np.int64)
    metric = dict(type='BoundaryIoUMetric')
    assert evaluate(metric, [labelled_sample(truth, truth)])[KEY] == 100  # background
    ignored = np.full_like(truth, 255)
    assert math.isnan(evaluate(metric, [labelled_sample(ignored, truth)])[KEY])
    pred = truth.copy()
    pred[4, 3] = 2  # a false class lowers the background alone
    value = evaluate(metric, [labelled_sample(truth, pred)])[KEY]
    # 28 pixels at the border, and 8 around the false one
    assert value == pytest.approx(100 * 28 / 36)
    metric['background'] = False
    assert math.isnan(evaluate(metric, [labelled_sample(truth, pred)])[KEY])


def test_data_sets_without_background():
    pred, truth = blobs(1, (16, 21), 2)
    metric = dict(type='BoundaryIoUMetric', background=False)
    values = evaluate(metric, [labelled_sample(truth, pred)], classes=('road', 'sky'))
    expected = boundary_iou_by_loops([(pred, truth)], 2, 0.02)
    assert values[KEY] == pytest.approx(expected)
    one = labelled_sample(np.zeros((6, 4), np.int64), np.zeros((6, 4), np.int64))
    assert evaluate(metric, [one], classes=('road',))[KEY] == 100


def test_maps_become_labels():
    samples = [make_sample(i, (11, 14)) for i in range(3)]
    metric = dict(type='BoundaryIoUMetric', sources=['lam', 'seg'], bkg=dict(lam=0.3))
    values = evaluate(metric, samples)
    pairs = [
        (
            maps_to_labels(s.lam.data[None], s.gt_score[None], 0.3)[0].numpy(),
            s.gt_sem_seg.data[0].numpy(),
        )
        for s in samples
    ]
    expected = boundary_iou_by_loops(pairs, K + 1, 0.02)
    assert values['lam/boundary_mIoU'] == pytest.approx(expected)
    for sample in samples:  # the maps of the image's labels are enough
        indices = sample.gt_score.nonzero().flatten()
        sample.lam.data = sample.lam.data[indices]
        for name in ('cam', 'fused'):
            delattr(sample, name)
        sample.set_field(indices, 'map_indices')
    assert evaluate(metric, samples) == values


def test_bad_arguments_and_samples():
    build = dict(type='BoundaryIoUMetric')
    sample = make_sample(0)
    for ratio in (0, 1):
        with pytest.raises(ValueError, match=rf'dilation_ratio.*\(0, 1\), got {ratio}'):
            evaluate(dict(build, dilation_ratio=ratio), [sample])
    for sources in ('seg', [], ['seq']):
        with pytest.raises(ValueError, match='sources must be a list of some of'):
            evaluate(dict(build, sources=sources), [sample])
    with pytest.raises(ValueError, match=r'\[0, 1\), got 2'):
        evaluate(dict(build, bkg=2), [sample])
    with pytest.raises(ValueError, match='BoundaryIoUMetric needs dataset_meta'):
        evaluate(build, [sample], classes=None)
    with pytest.raises(ValueError, match=r'pred_sem_seg.*labels \[3\].*expected 0..2'):
        pred = np.full((4, 4), 3)
        evaluate(build, [labelled_sample(pred * 0, pred)], classes=CLASSES[:3])
    with pytest.raises(ValueError, match='no image was evaluated'):
        evaluate(build, [])
    del sample.lam
    with pytest.raises(KeyError, match='"lam" is missing.*LocalizationHook'):
        evaluate(dict(build, sources=['lam']), [sample])
    sample = labelled_sample(torch.zeros(4, 4).long(), maps=dict(lam=torch.rand(K, 4, 4)))
    with pytest.raises(KeyError, match='"gt_score" is missing'):
        evaluate(dict(build, sources=['lam']), [sample])
    with pytest.raises(KeyError, match='"pred_sem_seg" is missing'):
        evaluate(build, [sample])
