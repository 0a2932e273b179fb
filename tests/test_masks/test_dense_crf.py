"""Classes left out of the dense CRF, confidences and tiny images."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from golden import Golden
from mmseg_more.masks import CLASS_EPSILON, dense_crf, dense_crf_mask

NUM_IMAGES = 50
OPS = Golden('ops')


def make_image(seed, size=(30, 40), channels=12):
    """Noise, and smooth probabilities of two classes over many weak ones."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.full((channels, *size), -4.0)
    weak = torch.randn(1, channels, 4, 5, generator=generator)
    strong = torch.randn(1, 3, 4, 5, generator=generator)
    logits += 0.5 * F.interpolate(weak, size, mode='bicubic')[0]
    logits[[0, 2, 5]] = 1 + 3 * F.interpolate(strong, size, mode='bicubic')[0]
    image = torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8)
    return image.numpy(), logits.softmax(0).numpy()


@pytest.mark.parametrize('backend', ['auto', 'lattice', 'pydensecrf'])
def test_golden(backend):
    image = OPS['image_u8'][0].permute(1, 2, 0).numpy()
    refined = dense_crf(image, OPS['crf.prob'].numpy(), backend=backend)
    np.testing.assert_allclose(refined, OPS['crf.Q'].numpy(), rtol=1e-5, atol=1e-5)
    assert (refined.argmax(0) != OPS['crf.argmax'].numpy()).mean() <= 1e-3


def test_image_of_another_size():
    with pytest.raises(ValueError, match='uint8 RGB image'):
        dense_crf(np.zeros((4, 4, 3), np.uint8), np.ones((2, 5, 4)))


def test_classes_below_epsilon_do_not_change_the_labels():
    different, left_out = 0.0, 0
    for seed in range(NUM_IMAGES):
        image, probs = make_image(seed)
        weak = probs.reshape(len(probs), -1).max(1) < CLASS_EPSILON
        left_out += weak.sum()
        labels = dense_crf(image, probs, epsilon=CLASS_EPSILON).argmax(0)
        assert not np.isin(labels, weak.nonzero()).any()
        different += (labels != dense_crf(image, probs).argmax(0)).mean()
    assert left_out > 2 * NUM_IMAGES
    assert different / NUM_IMAGES <= 1e-4


def test_left_out_classes_come_back_as_zero():
    image, probs = make_image(0)
    probs[0] = 0.0  # the background stays whatever it is
    probs[3] = 0.0999
    probs[4] = 0.1
    refined = dense_crf(image, probs, epsilon=0.1)
    weak = probs.reshape(len(probs), -1).max(1) < 0.1
    assert weak[0] and weak[3] and not weak[4]
    weak[0] = False
    assert (refined[weak] == 0).all()
    assert (refined[~weak] > 0).reshape((~weak).sum(), -1).any(1).all()
    np.testing.assert_allclose(refined.sum(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(refined[~weak], dense_crf(image, probs[~weak]))


@pytest.mark.parametrize('channels', [1, 3])
def test_background_alone(channels):
    image, probs = make_image(0, channels=12)
    probs = probs[:channels] * 1e-3
    refined = dense_crf(image, probs, epsilon=0.1)
    assert (refined[0] == 1).all() and (refined[1:] == 0).all()
    mask, confidence = dense_crf_mask(image, probs, np.arange(channels))
    assert (mask == 0).all()
    np.testing.assert_array_equal(confidence, [1.0] + [np.nan] * (channels - 1))


def test_confidence_is_the_mean_probability_where_a_channel_wins():
    image, probs = make_image(1, channels=6)
    labels = np.array([0, 9, 3, 1, 2, 20])
    refined = dense_crf(image, probs, epsilon=CLASS_EPSILON)
    mask, confidence = dense_crf_mask(image, probs, labels)
    assert mask.dtype == np.uint8 and confidence.dtype == np.float32
    assert set(np.unique(mask)) == {0, 3, 20}
    for channel, label in enumerate(labels):
        won = mask == label
        np.testing.assert_allclose(
            confidence[channel],
            refined[channel][won].mean() if won.any() else np.nan,
            rtol=1e-5,
        )


@pytest.mark.parametrize('size', [(1, 40), (30, 1), (1, 1)])
def test_images_of_one_pixel_height_or_width(size):
    image, probs = make_image(2, (30, 40))
    image, probs = image[: size[0], : size[1]], probs[:, : size[0], : size[1]]
    mask, confidence = dense_crf_mask(image, probs, np.arange(len(probs)))
    assert mask.shape == size and np.nanmax(confidence) <= 1 + 1e-5


def test_probabilities_must_be_finite():
    image, probs = make_image(0)
    probs[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match='finite'):
        dense_crf(image, probs)


def test_image_that_cannot_be_written():
    image = np.zeros((4, 5, 3), np.uint8)
    probs = np.full((2, 4, 5), 0.5, np.float32)
    expected = dense_crf(image, probs)
    image.flags.writeable = False
    np.testing.assert_array_equal(dense_crf(image, probs), expected)
