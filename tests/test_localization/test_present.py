"""The present classes as channels."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from mmseg_more import localization as L
from mmseg_more.localization.present import predicted_classes, present_classes
from strategies import label_maps, labelled_maps

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


@given(labelled_maps())
def test_channels_of_any_labels(drawn):
    maps, image_labels = drawn
    present = present_classes(image_labels)
    count = max(1, int(image_labels.sum(1).max()))
    assert present.indices.shape == present.real.shape == (len(maps), count)
    for number, row in enumerate(image_labels):
        own = present.of_image(number)
        assert own.tolist() == row.nonzero().flatten().tolist()
        chosen = present.select(maps)[number, : len(own)]
        assert_close(chosen, maps[number, own], rtol=0, atol=0)
    # a limit that is higher than the classes of any image fills up with absent ones
    roomy = present_classes(image_labels, count + 1)
    assert roomy.indices.shape[1] == min(count + 1, maps.shape[1])
    assert roomy.of_image(0).tolist() == present.of_image(0).tolist()


@given(st.data(), labelled_maps())
def test_labels_of_channels_and_of_classes(data, drawn):
    maps, image_labels = drawn
    present = present_classes(image_labels)
    for number, own in enumerate(map(present.of_image, range(len(maps)))):
        channels = data.draw(label_maps(len(own) + 1))
        labels = torch.zeros(len(maps), *channels.shape, dtype=torch.int64)
        labels[number] = channels
        named = torch.full((256,), 255)
        named[: len(own) + 1] = torch.cat([torch.zeros(1, dtype=torch.int64), own + 1])
        assert_close(present.name_labels(labels)[number], named[channels])


def test_classes_of_images_without_labels():
    """A logit above 0 speaks for a class; where none does, 5 patches of 2 x 4."""
    scores = torch.tensor([[-1.0, 0.0, 2.0], [0.0, -1.0, -1.0], [-1.0, -1.0, -1.0]])
    shown = torch.tensor([[[1] * 4] * 2, [[2] * 4, [2, 3, 3, 3]], [[2] * 4, [0] * 4]])
    segmentation = torch.nn.functional.one_hot(shown, 4).movedim(-1, 1).float()
    predicted = predicted_classes(scores, segmentation)
    assert predicted.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert predicted_classes(scores, segmentation, 3)[1].tolist() == [0, 1, 1]
    assert predicted_classes(scores, segmentation, 4)[2].tolist() == [0, 1, 0]
