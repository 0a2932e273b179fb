"""What holds for the labels of any maps, thresholds and classes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from mmseg_more import localization as L
from strategies import (
    label_maps,
    labelled_maps,
    permutation,
    sizes,
    thresholds,
    unit_floats,
)

EXACT = dict(rtol=0, atol=0)


def present(image_labels):
    """For each image: its labels, and the two that every image may have."""
    return [{0, 255, *(1 + row.nonzero().flatten()).tolist()} for row in image_labels]


@given(labelled_maps(), thresholds())
def test_labels_are_of_present_classes(drawn, pair):
    maps, image_labels = drawn
    low, high = pair
    labels = L.maps_to_labels(maps, image_labels, high, low)
    assert labels.dtype == torch.int64 and labels.shape == (len(maps), *maps.shape[2:])
    for image, allowed in zip(labels, present(image_labels)):
        assert set(image.flatten().tolist()) <= allowed


@given(labelled_maps(), thresholds())
def test_thresholds_are_the_last_value_below(drawn, pair):
    """Each label by its definition: ``<=`` belongs to what is below."""
    maps, image_labels = drawn
    low, high = pair
    value = (maps * image_labels[:, :, None, None]).amax(1)
    labels = L.maps_to_labels(maps, image_labels, high, low)
    assert_close(labels == 0, value <= low)
    assert_close(labels == 255, (low < value) & (value <= high))
    assert_close(L.maps_to_labels(maps, image_labels, high) == 0, value <= high)


def test_a_value_at_the_threshold_is_below():
    maps = torch.tensor([[[[0.25, 0.375, 0.5, 0.75]]]])
    labels = L.maps_to_labels(maps, torch.ones(1, 1), 0.5, 0.25)
    assert labels.flatten().tolist() == [0, 255, 255, 1]
    labels = L.maps_to_labels(maps, torch.ones(1, 1), 0.5)
    assert labels.flatten().tolist() == [0, 0, 0, 1]
    assert L.maps_to_labels(maps, torch.ones(1, 1), 0.5, 0.5).unique().tolist() == [0, 1]
    with pytest.raises(ValueError, match='low .0.6. must not be above high .0.5.'):
        L.maps_to_labels(maps, torch.ones(1, 1), 0.5, 0.6)


@given(labelled_maps(), st.lists(unit_floats, min_size=3, max_size=3).map(sorted))
def test_higher_thresholds_give_less(drawn, levels):
    """A higher ``high`` adds no class, a higher ``low`` removes no background."""
    maps, image_labels = drawn
    lowest, middle, highest = levels
    labels, higher_high, higher_low = (
        L.maps_to_labels(maps, image_labels, high, low)
        for high, low in ((middle, lowest), (highest, lowest), (highest, middle))
    )
    is_class = (higher_high > 0) & (higher_high < 255)
    assert (labels[is_class] == higher_high[is_class]).all()
    assert_close(labels == 0, higher_high == 0)
    assert (higher_low[higher_high == 0] == 0).all()
    is_class = (higher_low > 0) & (higher_low < 255)
    assert_close(higher_low[is_class], higher_high[is_class])


@given(st.data(), labelled_maps(), thresholds())
def test_labels_know_neither_side_nor_class(data, drawn, pair):
    maps, image_labels = drawn
    low, high = pair
    labels = L.maps_to_labels(maps, image_labels, high, low)
    flipped = L.maps_to_labels(maps.flip(-1), image_labels, high, low)
    assert_close(flipped, labels.flip(-1), **EXACT)
    order = data.draw(permutation(maps.shape[1]))
    other = L.maps_to_labels(maps[:, order], image_labels[:, order], high, low)
    named = torch.arange(256)
    named[1 : len(order) + 1] = order + 1
    valid = maps * image_labels[:, :, None, None]
    tied = (valid == valid.amax(1, keepdim=True)).sum(1) > 1  # the first of them wins
    assert_close(named[other].masked_fill(tied, 0), labels.masked_fill(tied, 0), **EXACT)


@given(labelled_maps(), thresholds(), sizes)
def test_labels_of_patches_come_from_resized_maps(drawn, pair, grid):
    maps, image_labels = drawn
    low, high = pair
    labels = L.maps_to_patch_labels(maps, image_labels, high, low, grid)
    resized = L.resize_map(maps, grid)
    assert labels.shape == (len(maps), *grid)
    assert_close(labels, L.maps_to_labels(resized, image_labels, high, low), **EXACT)


@given(label_maps(4))
def test_pairs_of_patches(labels):
    (pairs,), flat = L.affinity_pairs(labels[None]), labels.flatten().tolist()
    for i, one in enumerate(flat):
        for j, other in enumerate(flat):
            ignored = i == j or 255 in (one, other)
            assert pairs[i, j] == (255 if ignored else int(one == other))
