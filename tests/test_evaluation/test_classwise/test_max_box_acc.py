import math

import numpy as np
import pytest
import torch

from localization_samples import K, evaluate, flood, labelled_sample, make_sample
from mmseg_more.evaluation.classwise.max_box_acc import component_boxes

METRIC = dict(type='MaxBoxAccV2Metric')


def boxes_by_loops(mask):
    """Inclusive rows and columns (y0, x0, y1, x1) of each component."""
    found = []
    for component in flood(mask):
        ys, xs = zip(*component)
        found.append((min(ys), min(xs), max(ys), max(xs)))
    return found


def iou_by_loops(a, b):
    """By the pixels in each box."""
    first, second = (
        {(y, x) for y in range(y0, y1 + 1) for x in range(x0, x1 + 1)}
        for y0, x0, y1, x1 in (a, b)
    )
    return len(first & second) / len(first | second)


def acc_by_loops(samples, name, num_thresholds, ious):
    """MaxBoxAcc of each IoU, from each pair of image and class that has an object."""
    hits = {iou: np.zeros(num_thresholds) for iou in ious}
    pairs = 0
    for sample in samples:
        truth = sample.gt_sem_seg.data[0].numpy()
        for k in range(K):
            true = boxes_by_loops(truth == k + 1)
            if not sample.gt_score[k] or not true:
                continue
            pairs += 1
            level = np.floor(sample.get(name).data[k].numpy() * np.float32(255))
            for index in range(num_thresholds):
                cut = math.floor(index / num_thresholds * level.max())
                best = max(
                    (iou_by_loops(a, b) for a in boxes_by_loops(level > cut) for b in true),
                    default=0,
                )
                for iou in ious:
                    hits[iou][index] += best >= iou
    return {iou: 100 * count.max() / pairs for iou, count in hits.items()}


def blob_samples(num=4):
    """Rectangles with holes, and smooth maps that show about where they are."""
    samples = []
    for i in range(num):
        rng = np.random.default_rng(i)
        size = (18, 14 + i)
        truth = np.zeros(size, np.int64)
        maps = np.zeros((K, *size), np.float32)
        rows, columns = np.mgrid[: size[0], : size[1]]
        for k in range(K):
            y, x = rng.integers(0, 9, 2)
            truth[y : y + 6, x : x + 5] = k + 1
            truth[y + 2, x + 2] = 0
            distance = (rows - y - 2) ** 2 + (columns - x - rng.integers(4)) ** 2
            maps[k] = np.exp(-distance / rng.integers(8, 40)) * rng.uniform(0.9, 1, size)
        truth[0] = 255
        gt_score = (rng.random(K) < 0.8).astype(np.float32)
        gt_score[0] = 1
        samples.append(labelled_sample(truth, None, dict(cam=maps, lam=maps**3), gt_score))
    return samples


def test_boxes_of_components():
    """Also of components within the hole of another; holes have none."""
    rng = np.random.default_rng(0)
    for density in (0, 0.2, 0.5, 0.8, 1):
        mask = rng.random((13, 17)) < density
        found = component_boxes(mask)
        assert found.shape[1] == 4
        assert sorted((y0, x0, y1 - 1, x1 - 1) for x0, y0, x1, y1 in found.tolist()) == (
            sorted(boxes_by_loops(mask))
        )


def test_is_the_formula():
    samples = blob_samples()
    ious = (0.3, 0.5, 0.7)
    figures = evaluate(dict(METRIC, num_thresholds=20), samples)
    for name in ('cam', 'lam'):
        expected = acc_by_loops(samples, name, 20, ious)
        assert figures[f'{name}/MaxBoxAccV2'] == pytest.approx(
            np.mean(list(expected.values()))
        )
        for iou, value in expected.items():
            assert figures[f'{name}/MaxBoxAcc@{100 * iou:.0f}'] == pytest.approx(value)
    assert len(figures) == 8
    assert 5 < figures['lam/MaxBoxAccV2'] < 95


def test_one_threshold_for_all_images():
    """Each map is right at a threshold of its own, so only one of them can be."""
    truth = np.zeros((8, 12), np.int64)
    truth[2:6, 2:6] = 1
    exact, shown = (truth == 1) * np.float32(1), truth * np.float32(0)
    wide = exact.copy()
    wide[1:7, 1:11] = np.maximum(wide[1:7, 1:11], 0.5)  # right above .5 only
    shown[2:6, 2:6] = 0.4
    shown[3, 3] = 1  # right below .4 only
    samples = [
        labelled_sample(truth, None, dict(cam=np.stack([m] * K)), [1.0, 0.0, 0.0])
        for m in (wide, shown)
    ]
    metric = dict(METRIC, ious=[0.9], num_thresholds=100)
    assert evaluate(metric, samples[:1])['cam/MaxBoxAcc@90'] == 100
    assert evaluate(metric, samples[1:])['cam/MaxBoxAcc@90'] == 100
    assert evaluate(metric, samples)['cam/MaxBoxAcc@90'] == 50


def test_best_of_several_boxes_counts():
    """Two objects and two pieces, of which one pair fits by half."""
    truth = np.zeros((9, 16), np.int64)
    truth[1:3, 1:5] = truth[5:8, 10:14] = 2
    score = np.zeros(truth.shape, np.float32)
    score[1:3, 3:5] = 1  # half of the first
    score[8, 0] = 1  # nowhere
    maps = np.stack([score] * K)
    sample = labelled_sample(truth, None, dict(fused=maps), [0.0, 1.0, 0.0])
    figures = evaluate(METRIC, [sample])
    assert figures == pytest.approx(
        {
            'fused/MaxBoxAccV2': 200 / 3,
            'fused/MaxBoxAcc@30': 100,
            'fused/MaxBoxAcc@50': 100,  # an IoU of .5 is enough
            'fused/MaxBoxAcc@70': 0,
        }
    )


def test_perfect_maps_of_small_objects():
    truth = np.zeros((7, 7), np.int64)
    truth[3, 3] = 1
    maps = np.stack([truth == 1] * K).astype(np.float32)
    sample = labelled_sample(truth, None, dict(lam=maps), [1.0, 0.0, 0.0])
    assert evaluate(METRIC, [sample])['lam/MaxBoxAccV2'] == 100


def test_table_shows_the_classes_at_the_thresholds_of_all(tmp_path):
    import json

    samples = blob_samples()
    path = tmp_path / 'figures.json'
    total = evaluate(dict(METRIC, out_json=str(path), num_thresholds=20), samples)
    written = json.loads(path.read_text())
    pairs = [
        sum(bool(s.gt_score[k] and (s.gt_sem_seg.data == k + 1).any()) for s in samples)
        for k in range(K)
    ]
    classes = [written[f'lam/MaxBoxAccV2/{name}'] for name in ('circle', 'square', 'star')]
    assert written['lam/MaxBoxAccV2/background'] is None
    assert np.average(classes, weights=pairs) == pytest.approx(total['lam/MaxBoxAccV2'])


def test_nothing_to_score():
    sample = blob_samples(1)[0]
    maps = sample.cam.data
    for value in (0.0, 1.0):  # a map that shows nothing, and all
        sample.cam.data = torch.full_like(maps, value)
        figures = evaluate(dict(METRIC, maps=['cam']), [sample])
        assert figures['cam/MaxBoxAccV2'] == 0
    for label in (0, 255):
        sample.gt_sem_seg.data[:] = label
        assert all(map(math.isnan, evaluate(METRIC, [sample]).values()))


def test_bad_arguments():
    sample = make_sample(0)
    with pytest.raises(ValueError, match='num_thresholds must be 1 or more, got 0'):
        evaluate(dict(METRIC, num_thresholds=0), [sample])
    for ious in ((), (0, 0.5), (50,)):
        with pytest.raises(ValueError, match=r'ious must be some numbers in \(0, 1\]'):
            evaluate(dict(METRIC, ious=ious), [sample])
