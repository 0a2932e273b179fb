"""From maps and logits to the masks of one image."""

import pytest
import torch
from torch.testing import assert_close

from mmseg_more import masks as L
from mmseg_more.localization import maps_to_labels

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
