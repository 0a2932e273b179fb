"""Calibration and rejection against their definitions, by loops."""

import math

import numpy as np
import pytest
import torch

from mmseg_more.evaluation.reliability.figures import (
    confidence_histogram,
    image_error,
    rejection,
    reliability,
)


def naive_ece(confidence, right, num_bins):
    """Guo et al., 2017, equation 3, bin by bin."""
    total = 0.0
    for index in range(num_bins):
        low, high = index / num_bins, (index + 1) / num_bins
        inside = (confidence >= low) & (
            (confidence < high) | (index == num_bins - 1) & (confidence <= high)
        )
        if inside.any():
            gap = abs(confidence[inside].mean() - right[inside].mean())
            total += inside.sum() / len(confidence) * gap
    return total


def naive_risk(confidence, error):
    """Mean error of the most certain images, for each number of them."""
    order = sorted(range(len(error)), key=lambda i: -confidence[i])
    return [np.mean([error[i] for i in order[: n + 1]]) for n in range(len(order))]


def test_ece_is_that_of_the_definition():
    generator = np.random.default_rng(0)
    confidence = generator.random(5000) ** 0.5
    confidence[:50] = 1.0  # belongs to the last bin
    right = generator.random(5000) < confidence**2
    histogram = confidence_histogram(
        torch.from_numpy(confidence), torch.from_numpy(right), 256
    )
    found = reliability(histogram, 16)
    assert found.ece == pytest.approx(naive_ece(confidence, right, 16), abs=1e-12)
    assert found.bias == pytest.approx(confidence.mean() - right.mean(), abs=1e-12)
    last = confidence >= 15 / 16
    assert found.share[-1] == pytest.approx(last.mean())
    assert found.accuracy[-1] == pytest.approx(right[last].mean())


def test_histograms_of_images_add_up_to_that_of_all():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(6, 7, 8, generator=generator)
    right = torch.rand(6, 7, 8, generator=generator) < 0.5
    valid = torch.rand(6, 7, 8, generator=generator) < 0.8
    parts = [
        confidence_histogram(*part, 32, v) for *part, v in zip(confidence, right, valid)
    ]
    torch.testing.assert_close(
        sum(parts), confidence_histogram(confidence[valid], right[valid], 32)
    )


def test_perfect_confidence_has_no_error():
    right = torch.tensor([True, False, True])
    found = reliability(confidence_histogram(right.double(), right, 16), 16)
    assert found.ece == 0 and found.bias == 0
    assert np.isnan(found.accuracy[1:-1]).all() and found.to_dict()['accuracy'][1] is None


def test_nothing_to_count_is_not_a_number():
    empty = torch.zeros(0)
    found = reliability(confidence_histogram(empty, empty, 16), 16)
    assert math.isnan(found.ece) and found.to_dict()['ece'] is None


@pytest.mark.parametrize('value', [-0.1, 1.1, math.nan])
def test_confidence_lies_between_0_and_1(value):
    with pytest.raises(ValueError, match=r'lie in \[0, 1\]'):
        confidence_histogram(torch.tensor([value]), torch.tensor([True]), 16)
    with pytest.raises(ValueError, match='256 bins cannot be merged into 15'):
        reliability(torch.zeros(3, 256), 15)


def test_aurc_is_that_of_the_definition():
    generator = np.random.default_rng(1)
    confidence, error = generator.random(40), generator.random(40)
    found = rejection(confidence, error)
    np.testing.assert_allclose(found.risk, naive_risk(confidence, error))
    assert found.aurc == pytest.approx(np.mean(naive_risk(confidence, error)))
    assert found.ideal == pytest.approx(np.mean(naive_risk(-error, error)))
    assert found.random == pytest.approx(error.mean())
    assert rejection(-error, error).excess == pytest.approx(0)
    # only the order counts
    assert rejection(confidence**3, error).aurc == found.aurc


def test_equal_confidence_is_the_mean_over_all_orders():
    generator = np.random.default_rng(2)
    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    error = generator.random(5)
    orders = [
        naive_risk(confidence + 1e-6 * generator.random(5), error) for _ in range(4000)
    ]
    # 4000 drawn orders come so close to the mean of all
    np.testing.assert_allclose(
        rejection(confidence, error).risk, np.mean(orders, axis=0), atol=0.01
    )
    even = rejection(np.full(5, 0.3), error)
    assert even.aurc == pytest.approx(even.random) and even.excess == pytest.approx(1)


def test_one_image_and_equal_errors():
    alone = rejection(np.array([0.4]), np.array([0.25]))
    assert alone.risk.tolist() == [0.25]
    assert alone.aurc == alone.ideal == alone.random == 0.25 and math.isnan(alone.excess)
    assert math.isnan(rejection(np.arange(3.0), np.full(3, 0.1)).excess)
    with pytest.raises(ValueError, match='of each image'):
        rejection(np.zeros(0), np.zeros(0))


def test_error_of_an_image_counts_labels_of_mask_and_truth():
    confusion = torch.zeros(4, 4, dtype=torch.int64)
    confusion[0, 0], confusion[0, 2], confusion[1, 1] = 6, 2, 4
    # background 6 of 8, class 1 all, class 2 is shown but nowhere; class 3 is in neither
    assert image_error(confusion) == pytest.approx(1 - (6 / 8 + 1 + 0) / 3)
    assert math.isnan(image_error(torch.zeros(4, 4)))
