"""From maps and logits to the masks of one image."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from mmseg_more import masks as L
from mmseg_more.localization import maps_to_labels
from mmseg_more.masks.probabilities import won_probability
from strategies import maps, permutation, unit_floats

MAPS = torch.tensor(
    [[[0.9, 0.2, 0.1, 0.4]], [[0.3, 0.6, 0.1, 0.95]], [[0.0, 0.7, 0.2, 0.5]]]
)  # (K=3, 1, 4)


def thresholded(indices, bkg):
    return L.probabilities_to_mask(L.map_probabilities(MAPS, indices), bkg)


def test_background_is_what_the_classes_leave():
    probs, labels = L.map_probabilities(MAPS, [0, 2])
    assert labels.tolist() == [0, 1, 3]
    assert_close(probs[1:], MAPS[[0, 2]])
    assert_close(probs[0, 0], torch.tensor([0.1, 0.3, 0.8, 0.5]))
    mask = L.probabilities_to_mask(L.ClassProbabilities(probs, labels))
    assert mask.dtype == torch.uint8
    assert mask.tolist() == [[1, 3, 0, 0]]


def test_threshold_mask_is_the_one_of_the_evaluation():
    image_labels = torch.tensor([[1.0, 0.0, 1.0]])
    expected = maps_to_labels(MAPS[None], image_labels, 0.45)[0]
    mask = thresholded([0, 2], 0.45)
    assert mask.tolist() == expected.tolist() == [[1, 3, 0, 3]]
    # at the threshold: background
    assert thresholded([0], 0.9).tolist() == [[0, 0, 0, 0]]


def test_segmentation_keeps_background_and_the_allowed_classes():
    logits = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    probs, labels = L.seg_probabilities(logits)
    assert labels.tolist() == [0, 1, 2, 3]
    assert_close(probs, logits.softmax(0))
    mask = L.probabilities_to_mask(L.ClassProbabilities(probs, labels))
    assert torch.equal(mask.long(), logits.argmax(0))
    some = L.seg_probabilities(logits, [2])
    assert_close(some.probs, logits.softmax(0)[[0, 3]])
    assert set(L.probabilities_to_mask(some).unique().tolist()) == {0, 3}


@pytest.mark.parametrize('classes', [[], torch.tensor([], dtype=torch.int64)])
def test_no_class_is_background(classes):
    probabilities = L.map_probabilities(MAPS, classes)
    assert probabilities.probs.tolist() == [[[1.0, 1.0, 1.0, 1.0]]]
    assert not L.probabilities_to_mask(probabilities).any()
    assert not thresholded(classes, 0.1).any()
    logits = torch.tensor([0.0, 5.0])[:, None, None]
    assert not L.probabilities_to_mask(L.seg_probabilities(logits, classes)).any()


@pytest.mark.parametrize('classes', [[3], [-1], [0, 7]])
def test_a_class_must_be_one_of_the_maps(classes):
    for function in (L.map_probabilities, L.seg_probabilities):
        with pytest.raises(ValueError, match=r'indices 0\.\.2'):
            function(
                MAPS if function is L.map_probabilities else torch.cat([MAPS[:1], MAPS]),
                classes,
            )


def test_half_precision_gives_float32():
    assert L.map_probabilities(MAPS.half(), [1]).probs.dtype == torch.float32
    assert L.seg_probabilities(MAPS.half()).probs.dtype == torch.float32


@st.composite
def maps_and_classes(draw):
    """Maps ``(K, H, W)`` in [0, 1] and the indices of some classes, in any order."""
    drawn = draw(maps())[0]
    indices = draw(st.lists(st.integers(0, len(drawn) - 1), unique=True))
    return drawn, indices


@given(st.data(), maps_and_classes(), st.one_of(st.none(), st.floats(0, 0.99)))
def test_maps_of_any_size_and_classes(data, drawn, threshold):
    values, indices = drawn
    probs, labels = L.map_probabilities(values, indices, threshold=threshold)
    assert labels.tolist() == [0, *(index + 1 for index in indices)]
    assert ((0 <= probs) & (probs <= 1)).all()
    strongest = probs[1:].amax(0) if indices else torch.zeros(values.shape[1:])
    assert_close(probs[0], 1 - strongest, rtol=0, atol=0)
    # the channels may be those of some classes alone, in an order of their own
    channels = data.draw(permutation(len(values)))
    chosen = L.map_probabilities(values[channels], indices, channels, threshold)
    assert_close(chosen.probs, probs, rtol=0, atol=0)
    assert_close(chosen.labels, labels)


@given(maps_and_classes(), st.one_of(st.none(), st.floats(0, 0.99)))
def test_masks_show_allowed_classes_alone(drawn, bkg):
    values, indices = drawn
    mask = L.probabilities_to_mask(L.map_probabilities(values, indices), bkg)
    assert mask.dtype == torch.uint8 and mask.shape == values.shape[1:]
    assert set(mask.unique().tolist()) <= {0, *(index + 1 for index in indices)}
    if bkg is not None and indices:
        assert_close(mask == 0, values[indices].amax(0) <= bkg)


@given(maps_and_classes(), st.floats(0.05, 0.95))
def test_a_bent_map_meets_the_background_at_its_threshold(drawn, threshold):
    """The published mask of bent maps is that of the threshold, where it is not close."""
    values, indices = drawn
    mask = L.probabilities_to_mask(L.map_probabilities(values, indices), threshold)
    bent = L.probabilities_to_mask(
        L.map_probabilities(values, indices, threshold=threshold)
    )
    clear = (values[indices].amax(0) - threshold).abs() > 1e-4 if indices else mask == 0
    assert_close((bent == 0)[clear], (mask == 0)[clear])


@given(st.data(), maps(st.floats(-50, 50, width=32), max_classes=5))
def test_segmentations_sum_to_one(data, drawn):
    logits = drawn[0]
    probs, labels = L.seg_probabilities(logits)
    classes = max(len(logits) - 1, 1)  # a single channel is that of the one class
    assert labels.tolist() == list(range(classes + 1))
    assert_close(probs.sum(0), torch.ones(logits.shape[1:]))
    indices = data.draw(st.lists(st.integers(0, classes - 1), unique=True))
    allowed = L.seg_probabilities(logits, indices)
    assert_close(allowed.probs, probs[[0, *(index + 1 for index in indices)]])
    mask = L.probabilities_to_mask(allowed)
    assert set(mask.unique().tolist()) <= set(allowed.labels.tolist())


@given(maps_and_classes(), unit_floats)
def test_weak_classes_are_left_out(drawn, epsilon):
    probabilities = L.map_probabilities(*drawn)
    kept = probabilities.without_weak(epsilon)
    winners = probabilities.labels[probabilities.probs.argmax(0)].unique().tolist()
    expected = [
        label
        for label, channel in zip(probabilities.labels.tolist(), probabilities.probs)
        if label == 0 or channel.max() >= epsilon or label in winners
    ]
    assert kept.labels.tolist() == expected
    rows = [probabilities.labels.tolist().index(label) for label in expected]
    assert_close(kept.probs, probabilities.probs[rows], rtol=0, atol=0)


@given(maps_and_classes())
def test_confidence_is_a_mean_of_what_won(drawn):
    probabilities = L.map_probabilities(*drawn)
    mask = L.probabilities_to_mask(probabilities)
    for channel, label, mean in zip(*probabilities, won_probability(mask, probabilities)):
        won = channel[mask == label].double()
        assert (
            mean.isnan()
            if not len(won)
            else mean.item() == pytest.approx(won.mean().item(), rel=1e-5)
        )
