import math

import numpy as np
import pytest
import torch

from localization_samples import K, evaluate, labelled_sample, make_sample

METRIC = dict(type='PxAPMetric')


def pxap_by_loops(scores, truths, thresholds):
    """Sum over thresholds of precision times gained recall, from pooled pixels."""
    scores, truths = np.concatenate(scores).astype(np.float64), np.concatenate(truths)
    area = recall_before = 0.0
    for threshold in sorted(thresholds, reverse=True):
        shown = scores >= threshold
        if shown.any():
            recall = truths[shown].sum() / truths.sum()
            area += truths[shown].mean() * (recall - recall_before)
            recall_before = recall
    return 100 * area


def pooled(samples, name, classes):
    scores, truths = [], []
    for sample in samples:
        truth = sample.gt_sem_seg.data[0].numpy()
        for k in classes:
            if sample.gt_score[k]:
                scores.append(sample.get(name).data[k].numpy()[truth != 255])
                truths.append(truth[truth != 255] == k + 1)
    return scores, truths


def random_samples(num=4):
    """Maps of random floats, higher where the class is."""
    samples = []
    for i in range(num):
        sample = make_sample(i, (11 + i, 15))
        truth = sample.gt_sem_seg.data == torch.arange(1, K + 1)[:, None, None]
        for seed, name in enumerate(('cam', 'lam', 'fused')):
            generator = torch.Generator().manual_seed(100 * i + seed)
            value = torch.rand(truth.shape, generator=generator)
            sample.get(name).data = 0.4 * value + (0.3 + 0.1 * seed) * truth
            sample.get(name).data[:, -1, -1] = torch.tensor([0.0, 1.0, 0.5])
        samples.append(sample)
    return samples


@pytest.mark.parametrize('num_thresholds', [1, 7, 1000])
def test_is_the_formula(num_thresholds):
    samples = random_samples()
    figures = evaluate(dict(METRIC, num_thresholds=num_thresholds), samples)
    thresholds = [i / num_thresholds for i in range(num_thresholds + 1)]
    assert set(figures) == {
        f'{name}/{key}' for name in ('cam', 'lam', 'fused') for key in ('PxAP', 'mPxAP')
    }
    for name in ('cam', 'lam', 'fused'):
        total = pxap_by_loops(*pooled(samples, name, range(K)), thresholds)
        classes = [pxap_by_loops(*pooled(samples, name, [k]), thresholds) for k in range(K)]
        assert figures[f'{name}/PxAP'] == pytest.approx(total)
        assert figures[f'{name}/mPxAP'] == pytest.approx(np.mean(classes))


def test_fine_thresholds_give_the_average_precision():
    """As mmpretrain's, which takes each score as a threshold."""
    from mmpretrain.evaluation import AveragePrecision

    samples = random_samples()
    for sample in samples:  # where equal scores are
        sample.gt_sem_seg.data[0, -1, -1] = 255
    scores, truths = pooled(samples, 'lam', range(K))
    expected = AveragePrecision.calculate(
        torch.from_numpy(np.concatenate(scores))[:, None],
        torch.from_numpy(np.concatenate(truths)).long()[:, None],
    )
    figures = evaluate(dict(METRIC, maps=['lam'], num_thresholds=100_000), samples)
    # two of the random scores may lie between two thresholds
    assert figures['lam/PxAP'] == pytest.approx(float(expected), abs=0.02)


def test_by_hand():
    """Scores .9, .6, .6, .2 of which the first and third are of the class."""
    truth = np.array([[1, 0], [1, 0], [255, 255]])
    score = np.array([[0.9, 0.6], [0.6, 0.2], [1.0, 1.0]], np.float32)
    maps = np.stack([score, 0 * score, 0 * score])
    sample = labelled_sample(truth, maps=dict(cam=maps), gt_score=[1.0, 0.0, 0.0])
    figures = evaluate(METRIC, [sample])
    # at .9 precision 1 and half of the recall, at .6 precision 2/3 and the other half
    expected = 100 * (1 * 0.5 + 2 / 3 * 0.5)
    assert figures == pytest.approx({'cam/PxAP': expected, 'cam/mPxAP': expected})


def test_zero_and_one_are_thresholds():
    """A perfect map of zeros and ones, and one of which all pixels are 1."""
    truth = np.array([[1, 0, 0, 1]])
    for score, expected in ((truth == 1, 100), (truth >= 0, 50), (truth < 0, 50)):
        maps = np.stack([score] * K).astype(np.float32)
        sample = labelled_sample(truth, maps=dict(lam=maps), gt_score=[1.0, 0.0, 0.0])
        assert evaluate(METRIC, [sample])['lam/PxAP'] == expected


def test_only_classes_of_the_image_labels_count():
    samples = random_samples()
    expected = evaluate(METRIC, samples)
    for sample in samples:
        for name in ('cam', 'lam', 'fused'):
            sample.get(name).data[sample.gt_score == 0] = 0.77
    assert evaluate(METRIC, samples) == expected


def test_nothing_to_score():
    sample = random_samples(1)[0]
    sample.gt_sem_seg.data[:] = 255
    assert all(map(math.isnan, evaluate(METRIC, [sample]).values()))
    sample.gt_sem_seg.data[:] = 0  # labels without an object
    assert all(map(math.isnan, evaluate(METRIC, [sample]).values()))
    sample.gt_score[:] = 0
    assert all(map(math.isnan, evaluate(METRIC, [sample]).values()))


def test_a_class_that_does_not_occur_is_left_out():
    samples = random_samples(2)
    for sample in samples:
        sample.gt_score = torch.tensor([1.0, 1.0, 0.0])
        sample.gt_sem_seg.data[sample.gt_sem_seg.data == 3] = 0
    figures = evaluate(METRIC, samples)
    thresholds = [i / 1000 for i in range(1001)]
    classes = [pxap_by_loops(*pooled(samples, 'lam', [k]), thresholds) for k in (0, 1)]
    assert figures['lam/mPxAP'] == pytest.approx(np.mean(classes))


def test_bad_arguments():
    with pytest.raises(ValueError, match='num_thresholds must be 1 or more, got 0'):
        evaluate(dict(METRIC, num_thresholds=0), random_samples(1))
