import math

import numpy as np
import pytest

from localization_samples import CLASSES, K, evaluate, flood, labelled_sample, make_sample

METRIC = dict(type='ObjectSizeIoUMetric')


def objects_by_loops(pred, truth, label):
    """(IoU, area) of each object, unassigned and predicted pixels."""
    valid = {(int(y), int(x)) for y, x in zip(*np.nonzero(truth != 255))}
    objects = flood(truth == label)
    false_share = [0.0] * len(objects)
    unassigned = predicted = 0
    everything = set()
    for piece in flood(pred == label):
        piece &= valid
        predicted += len(piece)
        everything |= piece
        touched = [i for i, mask in enumerate(objects) if mask & piece]
        false = len(piece) - sum(len(objects[i] & piece) for i in touched)
        if not touched:
            unassigned += false
        for i in touched:
            total = sum(len(objects[j]) for j in touched)
            false_share[i] += false * len(objects[i]) / total
    ious = [
        (len(mask & everything) / (len(mask) + share), len(mask))
        for mask, share in zip(objects, false_share)
    ]
    return ious, unassigned, predicted


def figures_by_loops(pairs, labels, limits):
    """Limits are shares of the image."""
    groups = dict.fromkeys(['', '_small', '_medium', '_large'])
    unassigned = predicted = 0
    for group in groups:
        means = []
        for label in labels:
            ious = []
            for pred, truth in pairs:
                found, lost, all_of_them = objects_by_loops(pred, truth, label)
                if not group:
                    unassigned += lost
                    predicted += all_of_them
                for iou, area in found:
                    share = area / truth.size
                    size = (
                        '_small'
                        if share < limits[0]
                        else '_medium'
                        if share < limits[1]
                        else '_large'
                    )
                    if group in ('', size):
                        ious.append(iou)
            if ious:
                means.append(np.mean(ious))
        groups[group] = 100 * float(np.mean(means)) if means else math.nan
    figures = {f'seg/IA-mIoU{group}': value for group, value in groups.items()}
    figures['seg/unassigned'] = 100 * unassigned / predicted
    return figures


def scene(seed, size):
    """Rectangles of all sizes; predicted moved, some not at all, some where nothing is."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(size, np.int64)
    pred = truth.copy()
    for _ in range(12):
        y, x = rng.integers(size[0] - 2), rng.integers(size[1] - 2)
        h, w = rng.integers(1, 8, 2)
        label = rng.integers(1, K + 1)
        kind = rng.random()
        if kind < 0.8:
            truth[y : y + h, x : x + w] = label
        if kind > 0.2:
            pred[y + 1 : y + h + 1, x : x + w + 1] = label
    truth[rng.random(size) < 0.03] = 255
    return pred, truth


def test_is_the_formula():
    pairs = [scene(i, (25, 30 + i)) for i in range(6)]
    samples = [labelled_sample(truth, pred) for pred, truth in pairs]
    limits = (0.01, 0.03)
    figures = evaluate(dict(METRIC, limits=limits), samples)
    expected = figures_by_loops(pairs, range(1, K + 1), limits)
    assert figures == pytest.approx(expected)
    assert all(1 < value < 99 for value in figures.values())
    assert len({round(value, 6) for value in figures.values()}) == 5


def test_by_hand():
    """Two objects of 4 and 12 pixels under one prediction that holds 8 false pixels."""
    truth = np.zeros((10, 10), np.int64)
    truth[0:2, 0:2] = 1
    truth[0:2, 4:10] = 1
    pred = np.zeros_like(truth)
    pred[0:2, 1:8] = 1  # 14 pixels: 2 of the small one, 8 of the large, 4 false
    pred[2, 1:5] = 1  # 4 more
    pred[9, 9] = 1  # a piece by itself
    figures = evaluate(dict(METRIC, limits=(0.05, 0.2)), [labelled_sample(truth, pred)])
    small = 2 / (4 + 8 * 4 / 16)
    medium = 8 / (12 + 8 * 12 / 16)
    assert figures == pytest.approx(
        {
            'seg/IA-mIoU': 100 * (small + medium) / 2,
            'seg/IA-mIoU_small': 100 * small,
            'seg/IA-mIoU_medium': 100 * medium,
            'seg/IA-mIoU_large': math.nan,
            'seg/unassigned': 100 / 19,
        },
        nan_ok=True,
    )


def test_classes_weigh_the_same():
    """Two objects of one class, one of another."""
    truth = np.zeros((9, 14), np.int64)
    truth[1, 1] = truth[1, 5] = 1
    truth[6, 6] = 2
    pred = np.where(truth == 1, 1, 0)
    pred[1, 5] = 0
    figures = evaluate(METRIC, [labelled_sample(truth, pred)])
    assert figures['seg/IA-mIoU'] == pytest.approx(100 * (1 / 2 + 0) / 2)


@pytest.mark.parametrize(
    'option, sizes',
    [
        (dict(), ['small', 'medium', 'medium', 'large']),
        (dict(limits=(3, 5), unit='pixels'), ['small', 'medium', 'medium', 'large']),
        (dict(limits=(2, 3), unit='pixels'), ['medium', 'large', 'large', 'large']),
        (dict(limits=(0.03, 0.04)), ['small', 'small', 'medium', 'large']),
    ],
)
def test_limits(option, sizes):
    """Objects of some pixels about the limits; at a limit, the larger size begins."""
    height, width = (10, 12) if 'limits' in option else (20, 33)
    areas = [2, 3, 4, 5] if 'limits' in option else [2, 3, 19, 20]
    for area, size in zip(areas, sizes):
        truth = np.zeros((height, width), np.int64)
        truth[3, 1 : 1 + min(area, 10)] = truth[4, 1 : 1 + max(area - 10, 0)] = 2
        figures = evaluate(dict(METRIC, **option), [labelled_sample(truth, truth)])
        found = [key for key, value in figures.items() if '_' in key and value == 100]
        assert found == [f'seg/IA-mIoU_{size}'], area


def test_what_is_ignored_connects_but_does_not_count():
    truth = np.zeros((7, 11), np.int64)
    truth[1:5, 1:4] = 1
    truth[:, 4] = 255
    pred = np.zeros_like(truth)
    pred[1:5, 1:6] = 1  # across the ring: 4 false pixels, of one piece with the object
    figures = evaluate(METRIC, [labelled_sample(truth, pred)])
    assert figures['seg/IA-mIoU'] == pytest.approx(100 * 12 / 16)
    assert figures['seg/unassigned'] == 0
    pred[1:5, 4] = 0  # a piece by itself now
    figures = evaluate(METRIC, [labelled_sample(truth, pred)])
    assert figures['seg/IA-mIoU'] == 100
    assert figures['seg/unassigned'] == pytest.approx(100 * 4 / 16)


def test_nothing_to_score():
    zeros = np.zeros((6, 5), np.int64)
    ignored = zeros + 255
    for truth in (zeros, ignored):
        figures = evaluate(METRIC, [labelled_sample(truth, zeros)])
        assert all(math.isnan(value) for value in figures.values())
    # predicted, but not there
    figures = evaluate(METRIC, [labelled_sample(zeros, zeros + 1)])
    assert math.isnan(figures['seg/IA-mIoU'])
    assert figures['seg/unassigned'] == 100


def test_data_sets_without_background():
    """Each label is a class there, the first one too."""
    truth = np.zeros((6, 9), np.int64)
    pred = truth.copy()
    pred[:, 6:] = 1
    values = evaluate(METRIC, [labelled_sample(truth, pred)], classes=('road', 'sky'))
    assert values['seg/IA-mIoU'] == pytest.approx(100 * 6 / 9)
    one = labelled_sample(truth, truth)
    assert evaluate(METRIC, [one], classes=('road',))['seg/IA-mIoU_large'] == 100


def test_maps_become_labels():
    samples = [make_sample(i, (11, 14)) for i in range(3)]
    alone = evaluate(dict(METRIC, sources=['lam'], bkg=0.3), samples)
    both = evaluate(dict(METRIC, sources=['seg', 'lam'], bkg=dict(lam=0.3)), samples)
    assert {key.split('/')[0] for key in both} == {'seg', 'lam'}
    assert all(
        both[key] == pytest.approx(value, nan_ok=True) for key, value in alone.items()
    )
    assert both['lam/IA-mIoU'] != both['seg/IA-mIoU']


def test_bad_arguments():
    sample = make_sample(0)
    with pytest.raises(ValueError, match='unit must be one of share, pixels'):
        evaluate(dict(METRIC, unit='area'), [sample])
    for limits in ((1, 9), (0.1, 1.0)):
        with pytest.raises(ValueError, match='for pixels say unit="pixels"'):
            evaluate(dict(METRIC, limits=limits), [sample])
    for limits in ((0.1,), (0.2, 0.1), (0, 0.1), (0.1, 0.2, 0.3)):
        with pytest.raises(ValueError, match='two ascending areas above 0'):
            evaluate(dict(METRIC, limits=limits), [sample])
    with pytest.raises(ValueError, match='ObjectSizeIoUMetric needs dataset_meta'):
        evaluate(METRIC, [sample], classes=())
    assert 'seg/IA-mIoU' in evaluate(METRIC, [sample], classes=CLASSES)
