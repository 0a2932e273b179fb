"""The present classes as channels."""

import torch
from torch.testing import assert_close

from mmseg_more import localization as L
from mmseg_more.localization.present import present_classes

LABELS = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).float()


def test_channels():
    present = present_classes(LABELS)
    assert present.indices.shape == (3, 3)
    assert present.indices[0].tolist() == [1, 3, 4]
    assert present.indices[1, 0] == 0
    assert present.real.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_select():
    maps = torch.rand(3, 5, 2, 4)
    chosen = present_classes(LABELS).select(maps)
    assert_close(chosen[0], maps[0, [1, 3, 4]])
    assert_close(chosen[1, 0], maps[1, 0])


def test_names_of_labels():
    labels = torch.tensor([[[0, 1, 255]], [[1, 0, 1]], [[0, 255, 0]]])
    named = present_classes(torch.tensor([[0, 0, 1.0], [0, 1, 0], [0, 0, 0]])).name_labels(
        labels
    )
    assert named.tolist() == [[[0, 3, 255]], [[2, 0, 2]], [[0, 255, 0]]]


def test_names_beyond_255():
    image_labels = torch.zeros(1, 300)
    image_labels[0, [3, 299]] = 1
    named = present_classes(image_labels).name_labels(torch.tensor([[[1, 2, 0, 255]]]))
    assert named.tolist() == [[[4, 300, 0, 255]]]


def test_no_image_has_a_class():
    present = present_classes(torch.zeros(2, 4))
    assert present.indices.shape == (2, 1) and not present.real.any()


def test_labels_as_from_the_maps_of_all_classes():
    """Through the thresholds, and through PAR."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 5, 16, 24, generator=generator)
    images = torch.rand(3, 3, 32, 48, generator=generator)
    present = present_classes(LABELS)
    assert_close(
        present.name_labels(L.maps_to_labels(present.select(maps), present.real, 0.6, 0.3)),
        L.maps_to_labels(maps, LABELS, 0.6, 0.3),
    )
    options = L.PAROptions(dilations=(1, 2), num_iters=2)
    assert_close(
        present.name_labels(
            L.refine_labels(images, present.select(maps), present.real, 0.7, 0.3, options)
        ),
        L.refine_labels(images, maps, LABELS, 0.7, 0.3, options),
    )
