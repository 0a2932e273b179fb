"""PAR against its definition, pixel by pixel and neighbour by neighbour."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.testing import assert_close

from mmseg_more import localization as L
from mmseg_more.localization import refinement
from mmseg_more.localization.present import present_classes
from strategies import few_examples, labelled_maps, maps, sizes, thresholds, unit_floats

DILATIONS = (1, 3)


def _random(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _neighbours(maps, dilations):
    """``(B, C, M, H, W)``, replicated at the border."""
    height, width = maps.shape[-2:]
    rows, columns = torch.arange(height), torch.arange(width)
    shifted = []
    for d in dilations:
        for dy in (-d, 0, d):
            for dx in (-d, 0, d):
                if (dy, dx) != (0, 0):
                    row = (rows + dy).clamp(0, height - 1)
                    column = (columns + dx).clamp(0, width - 1)
                    shifted.append(maps[..., row, :][..., column])
    return torch.stack(shifted, dim=2)


def _affinity(images, dilations):
    """docs/method.md, section 5, word for word, in float64."""
    images = images.double()
    neighbours = _neighbours(images, dilations)
    std = neighbours.std(dim=2, keepdim=True)
    contrast = ((neighbours - images[:, :, None]).abs() / (std + 1e-8) / 0.3).square()
    distance = torch.tensor(
        [
            d * math.hypot(dy, dx)
            for d in dilations
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dy, dx) != (0, 0)
        ],
        dtype=torch.float64,
    )
    position = (-(distance / (distance.std() + 1e-8) / 0.3).square()).softmax(0)
    return (-contrast.mean(dim=1)).softmax(dim=1) + 0.01 * position[:, None, None]


@pytest.mark.parametrize('size', [(9, 12), (2, 7), (1, 5), (1, 1)])
@pytest.mark.parametrize('batch_size', [1, 3])
def test_affinity_and_propagation(size, batch_size):
    images = _random(batch_size, 3, *size)
    masks = _random(batch_size, 4, *size)
    affinity = L.pixel_affinity(images, DILATIONS)
    expected = _affinity(images, DILATIONS)
    assert affinity.shape == (batch_size, 16, *size)
    assert_close(affinity.double(), expected, rtol=1e-5, atol=1e-6)
    refined = L.propagate(masks, affinity, DILATIONS, 3)
    for _ in range(3):
        masks = (_neighbours(masks, DILATIONS) * affinity[:, None]).sum(dim=2)
    assert_close(refined, masks)


def test_affinity_in_any_layout():
    affinity = L.pixel_affinity(_random(2, 3, 6, 7), DILATIONS)
    masks = _random(2, 3, 6, 7)
    assert torch.equal(
        L.propagate(masks, affinity, DILATIONS, 2),
        L.propagate(masks, affinity.contiguous(), DILATIONS, 2),
    )


@pytest.mark.parametrize('batch_size', [2, 19])
def test_contrast_in_few_calls(batch_size):
    """What a GPU computes, against what a CPU does."""
    images = torch.rand(batch_size, 3, 9, 11)
    neighbours = refinement._neighbours(images, DILATIONS)
    assert_close(
        refinement._contrast_at_once(images, neighbours),
        refinement._contrast_in_turns(images, neighbours),
        rtol=1e-4,
        atol=1e-5,
    )


def test_constant_images():
    """No contrast: neighbours count alike, up to the term of the distance."""
    affinity = L.pixel_affinity(torch.full((1, 3, 5, 6), 0.3), DILATIONS)
    expected = _affinity(torch.full((1, 3, 5, 6), 0.3), DILATIONS)
    assert_close(affinity.double(), expected, rtol=1e-5, atol=1e-6)


def test_inputs_stay_as_they_are():
    images, masks = _random(1, 3, 6, 7), _random(1, 2, 6, 7)
    affinity = L.pixel_affinity(images, DILATIONS)
    copies = images.clone(), masks.clone(), affinity.clone()
    L.propagate(masks, affinity, DILATIONS, 2)
    for now, before in zip((images, masks, affinity), copies):
        assert torch.equal(now, before)


def _labels(image_labels, max_classes=None):
    """As a training step does it: for the present classes, as channels."""
    options = L.PAROptions(dilations=DILATIONS, num_iters=3)
    batch_size, classes = image_labels.shape
    maps = _random(batch_size, classes, 16, 12)
    images = _random(batch_size, 3, 16, 12)
    present = present_classes(image_labels, max_classes)
    labels = L.refine_labels(images, present.select(maps), present.real, 0.7, 0.25, options)
    of_all = L.refine_labels(images, maps, image_labels, 0.7, 0.25, options)
    assert torch.equal(present.name_labels(labels), of_all)
    return of_all


@pytest.mark.parametrize('max_classes', [3, 5, 100])
def test_number_of_classes_that_the_host_knows(max_classes):
    image_labels = torch.zeros(2, 6)
    image_labels[0, [1, 2, 5]] = image_labels[1, 3] = 1
    assert torch.equal(
        _labels(image_labels, max_classes=max_classes), _labels(image_labels)
    )


def test_number_of_classes_without_any():
    labels = _labels(torch.zeros(2, 6), max_classes=0)
    assert (labels == 0).all()


def test_300_classes():
    image_labels = torch.zeros(1, 300)
    image_labels[0, [0, 150, 299]] = 1
    labels = _labels(image_labels)
    assert set(labels.unique().tolist()) <= {0, 1, 151, 300, L.IGNORE_INDEX}


def test_nothing_is_read_back_when_the_host_knows_the_classes():
    """Tensors without data refuse to tell the host anything."""
    maps = torch.empty(2, 6, 32, 32, device='meta')
    arguments = (
        torch.empty(2, 3, 32, 32, device='meta'),
        maps,
        torch.empty(2, 6, device='meta'),
        0.7,
        0.25,
    )
    assert present_classes(arguments[2], max_classes=2).indices.shape == (2, 2)
    labels = L.refine_labels(*arguments)
    assert labels.shape == (2, 32, 32)
    with pytest.raises(RuntimeError, match='meta'):
        present_classes(arguments[2])


IMAGES = st.integers(0, 99).map(lambda seed: torch.Generator().manual_seed(seed))
FEW = L.PAROptions(dilations=(1, 3), num_iters=2)


def drawn_images(data, batch_size, size):
    """RGB ``(B, 3, H, W)`` in [0, 1] of a few levels, so that many pixels look alike."""
    levels = torch.randint(
        0, data.draw(st.integers(1, 4)), (batch_size, 3, *size), generator=data.draw(IMAGES)
    )
    return levels / 4


@given(st.data(), sizes)
def test_affinities_sum_to_one_and_the_distance(data, size):
    affinity = L.pixel_affinity(drawn_images(data, 2, size), DILATIONS)
    assert affinity.min() >= 0
    assert_close(affinity.sum(1), torch.full((2, *size), 1.01))


@given(st.data(), maps())
def test_rounds_keep_the_range_of_the_masks(data, masks):
    """A round is a mean over neighbours, but for the weight of 1 percent too much."""
    affinity = L.pixel_affinity(drawn_images(data, len(masks), masks.shape[-2:]), DILATIONS)
    rounds = data.draw(st.integers(0, 3))
    refined = L.propagate(masks, affinity, DILATIONS, rounds)
    gain = 1.01**rounds
    assert refined.shape == masks.shape
    assert (refined.amax((-2, -1)) <= gain * masks.amax((-2, -1)) + 1e-5).all()
    assert (refined.amin((-2, -1)) >= gain * masks.amin((-2, -1)) - 1e-5).all()
    same = L.propagate(torch.full_like(masks, 0.5), affinity, DILATIONS, rounds)
    assert_close(same, torch.full_like(masks, 0.5 * gain))


@given(st.data(), maps(), sizes)
def test_refinement_of_a_flipped_image_is_flipped(data, masks, size):
    # a row of several values that is resized to a single one becomes the first of them
    assume(size[-1] > 1 or masks.shape[-1] == 1)
    # sums over the neighbours in another order: in float32 the roundings of a standard
    # deviation that is nearly 0 decide where all neighbours are alike
    images, masks = drawn_images(data, len(masks), size).double(), masks.double()
    refined = L.pixel_adaptive_refinement(images, masks, FEW)
    assert refined.shape == (*masks.shape[:2], *size)
    flipped = L.pixel_adaptive_refinement(images.flip(-1), masks.flip(-1), FEW)
    assert_close(flipped.flip(-1), refined, rtol=1e-6, atol=1e-6)


@few_examples
@given(st.data(), labelled_maps(), thresholds(), sizes)
def test_refined_labels_are_of_present_classes(data, drawn, pair, size):
    (masks, image_labels), (low, high) = drawn, pair
    images = drawn_images(data, len(masks), size)
    labels = L.refine_labels(images, masks, image_labels, high, low, FEW)
    assert labels.dtype == torch.int64 and labels.shape == (len(masks), *size)
    for image, present in zip(labels, image_labels):
        allowed = {0, 255, *(1 + present.nonzero().flatten()).tolist()}
        assert set(image.flatten().tolist()) <= allowed
        if not present.any():
            assert not image.any()


@few_examples
@given(st.data(), labelled_maps(), st.lists(unit_floats, min_size=3, max_size=3))
def test_higher_backgrounds_win_more(data, drawn, levels):
    masks, image_labels = drawn
    # apart, as sums of float32 may change the winner of a tie
    low, high, higher = sorted(levels)[0], sorted(levels)[1], sorted(levels)[2] + 0.01
    images = drawn_images(data, len(masks), masks.shape[-2:])
    labels, fewer = (
        L.refine_labels(images, masks, image_labels, score, low, FEW)
        for score in (high, higher)
    )
    is_class = (fewer > 0) & (fewer < 255)
    assert (labels[is_class] == fewer[is_class]).all()
    assert_close(fewer == 0, labels == 0)


def test_defaults_are_those_of_the_options():
    options = L.PAROptions()
    assert options == ((1, 2, 4, 8, 12, 24), 10, 0.5)
    images = _random(1, 3, 5, 6)
    expected = L.pixel_affinity(images, options.dilations)
    assert expected.shape[1] == 48
    assert_close(L.pixel_affinity(images), expected, rtol=0, atol=0)
