"""Thresholds chosen without masks: counts, choice and file."""

import math
from unittest import mock

import pytest
import torch
import torch.multiprocessing as mp

from calibration_samples import (
    NUM_IMAGES,
    build,
    calibrate_rank,
    calibration_sample,
    evaluate,
)
from localization_samples import CLASSES, MAPS, REQUEST, K
from mmseg_more.evaluation.calibration.metric import (
    MIN_IMAGES,
    THRESHOLDS,
    choose_class_thresholds,
    choose_threshold,
    without_classes,
)
from mmseg_more.evaluation.functional import threshold_histogram
from mmseg_more.masks import Calibration

NAMES = CLASSES[1:]


def agreement(threshold, name, num=NUM_IMAGES):
    """IoU of each label at a threshold, straight from the definition."""
    right, union = torch.zeros(K + 1), torch.zeros(K + 1)
    for seed in range(num):
        sample = calibration_sample(seed)
        indices, maps = sample['map_indices'], sample[name]['data']
        labels = torch.cat([torch.zeros(1, dtype=torch.long), indices + 1])
        target = labels[sample['seg_logits']['data'][labels].argmax(0)]
        found = torch.zeros_like(target)
        if len(indices):
            found = torch.where(maps.amax(0) > threshold, labels[1:][maps.argmax(0)], 0)
        for label in range(K + 1):
            right[label] += ((found == label) & (target == label)).sum()
            union[label] += ((found == label) | (target == label)).sum()
    return right / union


# ------------------------------------------------------------------------ the choice
def test_choice_by_its_definition(tmp_path):
    metrics = evaluate(build(tmp_path / 'c.json'))
    file = Calibration.load(tmp_path / 'c.json')
    for name, kind, field in (('cam', 'raw', 'cam'), ('fused', 'ms', 'fused_ms')):
        ious = torch.stack([agreement(t, field) for t in THRESHOLDS])
        best = int(ious.mean(1).argmax())
        assert metrics[f'{name}/{kind}/threshold'] == THRESHOLDS[best]
        value = metrics[f'{name}/{kind}/agreement']
        assert value == pytest.approx(100 * ious[best].mean().item())
        found = file.threshold(name, kind)
        assert found.bkg == THRESHOLDS[best]
        for label, title in enumerate(NAMES, 1):
            own = THRESHOLDS[int(ious[:, label].argmax())]
            halfway = math.sqrt(own * found.bkg)
            assert found.classes[title] == pytest.approx(halfway, abs=1e-4)
    assert file.source['num_images'] == NUM_IMAGES
    assert file.source['agreement'].keys() == {
        f'{m}/{k}' for m in MAPS for k in ('raw', 'ms')
    }


def test_the_threshold_of_a_map_that_is_right_at_one():
    value = torch.tensor([[0.1, 0.2, 0.42, 0.9]])
    target = torch.tensor([[0, 0, 1, 1]])
    sweep = torch.tensor(THRESHOLDS, dtype=torch.float64)
    histogram = threshold_histogram(torch.zeros_like(target), value, target, sweep, 2)
    assert choose_threshold(histogram) == (0.2, 1.0)
    own = choose_class_thresholds(histogram)
    assert own[0] == 0.2 and own[1].isnan()
    nothing = choose_threshold(torch.zeros_like(histogram))
    assert nothing[0] == 0.5 and nothing[1] != nothing[1]


def test_classes_of_few_images_and_without_classes(tmp_path):
    evaluate(build(tmp_path / 'c.json'), num=MIN_IMAGES - 1)
    assert Calibration.load(tmp_path / 'c.json').threshold('cam', 'raw').classes == {}
    evaluate(build(tmp_path / 'c.json', per_class=False))
    assert Calibration.load(tmp_path / 'c.json').threshold('cam', 'raw').classes == {}


def test_a_class_that_takes_the_background_along(tmp_path):
    """It is named, and gets no threshold of its own."""
    metric = build(tmp_path / 'c.json')
    with mock.patch('mmseg_more.evaluation.calibration.metric.print_log') as log:
        for seed in range(NUM_IMAGES):
            sample = calibration_sample(seed)
            sample['seg_logits']['data'][2, :10] += 100  # the square, in 10 of 12 rows
            metric.process(None, [sample])
        counts = metric._counts['lam/ms'].clone()
        metric.evaluate(NUM_IMAGES)
    classes = Calibration.load(tmp_path / 'c.json').threshold('lam', 'ms').classes
    assert 'square' not in classes and 'circle' in classes
    assert 'square 8' in log.call_args_list[0].args[0]
    # nor does it count for the threshold of a map
    square = torch.tensor([name == 'square' for name in NAMES])
    found = Calibration.load(tmp_path / 'c.json').threshold('lam', 'ms')
    assert found.bkg == choose_threshold(without_classes(counts, square))[0]
    assert found.bkg != choose_threshold(counts)[0]


def test_pixels_of_classes_that_are_left_out():
    """Those that either labelling gives to them; if they are all, they stay."""
    generator = torch.Generator().manual_seed(0)
    strongest = torch.randint(0, 3, (20, 20), generator=generator)
    target = torch.randint(0, 4, (20, 20), generator=generator)
    value = torch.rand(20, 20, generator=generator)
    sweep = torch.tensor(THRESHOLDS, dtype=torch.float64)

    def count(truth):
        return threshold_histogram(strongest, value, truth, sweep, 3)

    left_out = torch.tensor([False, True, False])
    kept = (strongest != 1) & (target != 2)
    whole = count(target)
    found = without_classes(whole, left_out)
    assert torch.equal(found, count(target.where(kept, 255)))
    assert torch.equal(whole, count(target))
    assert torch.equal(without_classes(whole, torch.ones(3, dtype=torch.bool)), whole)


def test_memory_does_not_grow_with_images(tmp_path):
    metric = build(tmp_path / 'c.json')
    sizes = []
    for seed in range(6):
        metric.process(None, [calibration_sample(seed)])
        sizes.append(
            sum(c.numel() for c in (*metric._counts.values(), *metric._last.values()))
        )
    assert sizes[1] == sizes[-1] and metric.results == [()] * 6


def test_what_the_choice_needs(tmp_path):
    metric = build(tmp_path / 'c.json')
    sample = calibration_sample(0)
    del sample['seg_logits']
    with pytest.raises(KeyError, match='"seg_logits" is missing'):
        metric.process(None, [sample])
    metric.localization_request = REQUEST._replace(ms_scales=())
    with pytest.raises(ValueError, match='as use_calibration puts it there'):
        metric.process(None, [calibration_sample(0)])
    with pytest.raises(ValueError, match='no image was seen'):
        build(tmp_path / 'c.json').evaluate(0)


@pytest.mark.slow
def test_two_processes_choose_the_same(tmp_path):
    mp.spawn(calibrate_rank, args=(2, str(tmp_path)), nprocs=2)
    evaluate(build(tmp_path / 'one.json'))
    assert Calibration.load(tmp_path / 'two.json') == Calibration.load(
        tmp_path / 'one.json'
    )
