import math

import numpy as np
import pytest
import torch

from localization_samples import K, evaluate, labelled_sample, make_sample

METRIC = dict(type='PointingGameMetric')


def game_by_loops(samples, name, tolerance, difficult=False):
    """Mean over classes of hits / (hits + misses)."""
    accuracies = []
    for k in range(K):
        hits = misses = 0
        for sample in samples:
            truth = sample.gt_sem_seg.data[0].numpy()
            objects = list(zip(*np.nonzero(truth == k + 1)))
            if not sample.gt_score[k] or not objects:
                continue
            few = len(objects) / truth.size < 1 / 4
            if difficult and not (few and sample.gt_score.sum() > 1):
                continue
            score = sample.get(name).data[k].numpy()
            best = None
            for y in range(truth.shape[0]):
                for x in range(truth.shape[1]):
                    higher = best is None or score[y, x] > score[best]
                    if truth[y, x] != 255 and higher:
                        best = (y, x)
            near = min(math.dist(best, pixel) for pixel in objects)
            hits += near <= tolerance
            misses += near > tolerance
        if hits + misses:
            accuracies.append(hits / (hits + misses))
    return 100 * float(np.mean(accuracies)) if accuracies else math.nan


def samples_with_objects(num=25):
    """Small rectangles, and maps of noise that is stronger there."""
    samples = []
    for i in range(num):
        rng = np.random.default_rng(i)
        size = (12, 15 + i % 4)
        truth = np.zeros(size, np.int64)
        maps = rng.random((K, *size)).astype(np.float32)
        for k in range(K):
            y, x, height, width = rng.integers(1, 9, 4)
            truth[y : y + height, x : x + width] = k + 1
        for k in range(K):
            maps[k] += 0.05 * k * (truth == k + 1)
        truth[:, -2:] = 255
        gt_score = (rng.random(K) < 0.7).astype(np.float32)
        maps = maps / maps.max()
        samples.append(labelled_sample(truth, None, dict(lam=maps), gt_score))
    return samples


@pytest.mark.parametrize('tolerance', [0, 1, 1.5, 2, 3])
def test_is_the_formula(tolerance):
    samples = samples_with_objects()
    figures = evaluate(dict(METRIC, tolerance=tolerance), samples)
    for key, difficult in (('', False), ('_difficult', True)):
        expected = game_by_loops(samples, 'lam', tolerance, difficult)
        assert figures[f'lam/pointing_game{key}'] == pytest.approx(expected)
        assert 0 < expected < 100
    assert len(figures) == 2


@pytest.mark.parametrize('offset, tolerance', [((0, 15), 15), ((9, 12), 15), ((3, 4), 5)])
def test_tolerance_is_a_straight_distance(offset, tolerance):
    truth = np.zeros((40, 50), np.int64)
    truth[20, 20] = 1
    maps = np.zeros((K, 40, 50), np.float32)
    maps[0, 20 + offset[0], 20 + offset[1]] = 1
    sample = labelled_sample(truth, None, dict(cam=maps), [1.0, 0.0, 0.0])
    metric = METRIC if tolerance == 15 else dict(METRIC, tolerance=tolerance)
    assert evaluate(metric, [sample])['cam/pointing_game'] == 100
    maps[0] = np.roll(maps[0], (1, 1), (0, 1))
    sample.cam.data = torch.from_numpy(maps)
    assert evaluate(metric, [sample])['cam/pointing_game'] == 0


def test_by_hand():
    """Class 1 hits in one of two images, class 2 in one of one; class 3 is not there."""
    truth = np.zeros((4, 8), np.int64)
    truth[0, :2], truth[3, 6:] = 1, 2
    first = np.zeros((K, 4, 8), np.float32)
    first[0, 0, 1] = first[1, 3, 7] = first[2, 0, 0] = 1
    second = first.copy()
    second[0, 0, 5] = 1  # the first of two equal maxima is still right
    third = first.copy()
    third[0, 0, 1] = 0.9
    third[0, 0, 5] = 1
    samples = [
        labelled_sample(truth, None, dict(cam=maps), gt_score)
        for maps, gt_score in (
            (first, [0.0, 1.0, 0.0]),
            (second, [1.0, 0.0, 0.0]),
            (third, [1.0, 0.0, 0.0]),
        )
    ]
    figures = evaluate(dict(METRIC, tolerance=0), samples)
    assert figures['cam/pointing_game'] == pytest.approx(100 * (1 / 2 + 1) / 2)
    assert math.isnan(figures['cam/pointing_game_difficult'])  # one class in each image


def test_difficult_cases():
    """Less than a quarter of the image, and another class: of 2 x 8 pixels below 4."""
    truth = np.zeros((2, 8), np.int64)
    truth[0, :3], truth[1, :4] = 1, 2
    maps = np.zeros((K, 2, 8), np.float32)
    maps[0, 0, 0] = maps[1, 0, 7] = 1  # the small one is a hit
    sample = labelled_sample(truth, None, dict(cam=maps), [1.0, 1.0, 0.0])
    figures = evaluate(dict(METRIC, tolerance=0), [sample])
    assert figures == {'cam/pointing_game': 50, 'cam/pointing_game_difficult': 100}


def test_what_is_ignored_does_not_count():
    truth = np.zeros((3, 6), np.int64)
    truth[1, 1], truth[:, 5] = 1, 255
    maps = np.zeros((K, 3, 6), np.float32)
    maps[0, 1, 1], maps[0, 1, 5] = 0.5, 1
    sample = labelled_sample(truth, None, dict(cam=maps), [1.0, 0.0, 0.0])
    metric = dict(METRIC, tolerance=0)
    assert evaluate(metric, [sample])['cam/pointing_game'] == 100
    sample.gt_sem_seg.data[:] = 255
    assert all(map(math.isnan, evaluate(metric, [sample]).values()))
    sample.gt_sem_seg.data[:] = 0
    assert all(map(math.isnan, evaluate(metric, [sample]).values()))


def test_a_constant_map_points_nowhere():
    truth = np.ones((3, 6), np.int64)
    maps = np.full((K, 3, 6), 0.5, np.float32)
    sample = labelled_sample(truth, None, dict(cam=maps), [1.0, 0.0, 0.0])
    assert evaluate(METRIC, [sample])['cam/pointing_game'] == 0


def test_bad_arguments():
    with pytest.raises(ValueError, match='tolerance must be 0 pixels or more, got -1'):
        evaluate(dict(METRIC, tolerance=-1), [make_sample(0)])
