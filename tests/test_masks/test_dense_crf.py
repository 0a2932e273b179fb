"""Classes left out of the dense CRF, confidences and tiny images."""

import importlib
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.testing import assert_close

from golden import Golden
from mmseg_more.masks import (
    CLASS_EPSILON,
    DenseCRFOptions,
    dense_crf,
    dense_crf_batch,
    dense_crf_mask,
)
from mmseg_more.masks.dense_crf import label_pixels
from strategies import few_examples, permutation, sizes, tensors

NUM_IMAGES = 50
OPS = Golden('ops')
BOTH = ('lattice', 'pydensecrf')
# `mmseg_more.masks.dense_crf` is the function
module = importlib.import_module('mmseg_more.masks.dense_crf')


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
    image = OPS['image_u8'][0].permute(1, 2, 0).cpu().numpy()
    refined = dense_crf(image, OPS['crf.prob'].cpu().numpy(), backend=backend)
    np.testing.assert_allclose(refined, OPS['crf.Q'].cpu().numpy(), rtol=1e-5, atol=1e-5)
    assert (refined.argmax(0) != OPS['crf.argmax'].cpu().numpy()).mean() <= 1e-3


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


@pytest.mark.parametrize('backend', BOTH)
def test_many_classes_of_which_none_is_probable(backend):
    """Of 81 classes one can win with less than CLASS_EPSILON."""
    image = np.full((12, 16, 3), 128, np.uint8)
    probs = np.full((81, 12, 16), 0.0123, np.float32)
    probs[7, :, :8] = probs[40, :, 8:] = 0.0195
    probs[9, 0, 0] = 0.0196
    probs /= probs.sum(0)
    assert probs.max() < CLASS_EPSILON
    mask, _ = dense_crf_mask(image, probs, np.arange(81), backend=backend)
    expected = dense_crf(image, probs, backend=backend).argmax(0)
    assert set(np.unique(expected)) == {7, 40}
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize('channels', [1, 3])
def test_background_alone(channels):
    image, probs = make_image(0, channels=12)
    probs = probs[:channels] * 1e-3
    probs[0] = 1 - probs[1:].sum(0)
    refined = dense_crf(image, probs, epsilon=0.1)
    assert (refined[0] == 1).all() and (refined[1:] == 0).all()
    mask, confidence = dense_crf_mask(image, probs, np.arange(channels), epsilon=0.1)
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


def images_of_many_kinds():
    noise, probs = make_image(3, (31, 43))
    smooth = F.interpolate(torch.randn(1, 3, 4, 5), (31, 43), mode='bicubic') * 60 + 128
    smooth = smooth[0].clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return dict(noise=noise, smooth=smooth, black=np.zeros_like(noise)), probs


@pytest.mark.parametrize('channels', [2, 3, 12, 40])
@pytest.mark.parametrize('kind', ['noise', 'smooth', 'black'])
def test_backends_agree(kind, channels):
    images, probs = images_of_many_kinds()
    probs = np.concatenate([probs] * 4)[:channels]
    ours, theirs = (dense_crf(images[kind], probs, backend=name) for name in BOTH)
    # ten steps amplify the rounding of sums of up to 1000 terms where two classes tie
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
    assert (ours.argmax(0) != theirs.argmax(0)).mean() <= 1e-5
    np.testing.assert_allclose(ours.sum(0), 1, rtol=1e-5)


@pytest.mark.parametrize(
    'changed',
    [
        dict(num_iters=0),
        dict(num_iters=2, gaussian_sxy=3.0, gaussian_weight=1.0),
        dict(bilateral_sxy=9.0, bilateral_srgb=20.0, bilateral_weight=10.0),
    ],
)
def test_backends_agree_on_other_options(changed):
    image, probs = make_image(4)
    options = DenseCRFOptions(**changed)
    ours, theirs = (dense_crf(image, probs, options, backend=name) for name in BOTH)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
    assert abs(ours - dense_crf(image, probs, backend='lattice')).max() > 1e-2


@pytest.mark.parametrize('size', [(1, 40), (30, 1), (1, 1), (2, 3)])
def test_backends_agree_on_tiny_images(size):
    image, probs = make_image(2)
    image, probs = image[: size[0], : size[1]], probs[:, : size[0], : size[1]]
    ours, theirs = (dense_crf(image, probs, backend=name) for name in BOTH)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize('backend', BOTH)
def test_tensors_give_what_arrays_give(backend):
    image, probs = make_image(5)
    expected = dense_crf(image, probs, epsilon=0.05, backend=backend)
    for pixels in (image, torch.from_numpy(image)):
        refined = dense_crf(pixels, torch.from_numpy(probs), epsilon=0.05, backend=backend)
        assert isinstance(refined, torch.Tensor)
        np.testing.assert_array_equal(refined.numpy(), expected)
    labels = np.arange(len(probs))
    mask = dense_crf_mask(image, probs, labels, backend=backend)
    same = dense_crf_mask(
        torch.from_numpy(image),
        torch.from_numpy(probs),
        torch.from_numpy(labels),
        backend=backend,
    )
    for actual, array in zip(same, mask):
        assert isinstance(actual, np.ndarray) and actual.dtype == array.dtype
        np.testing.assert_array_equal(actual, array)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_other_types_are_refined_in_float32(dtype):
    image, probs = make_image(5)
    probs = torch.from_numpy(probs).to(dtype)
    refined = dense_crf(image, probs, backend='lattice')
    assert refined.dtype == torch.float32
    assert torch.equal(refined, dense_crf(image, probs.float(), backend='lattice'))


def test_inputs_stay_as_they_are():
    for backend in BOTH:
        image, probs = make_image(0)
        before = image.copy(), probs.copy()
        dense_crf(image, probs, epsilon=0.1, backend=backend)
        np.testing.assert_array_equal(image, before[0])
        np.testing.assert_array_equal(probs, before[1])


def batch(channels):
    made = [make_image(seed, channels=12) for seed in range(len(channels))]
    return [m[0] for m in made], [m[1][:c] for m, c in zip(made, channels)]


@pytest.mark.parametrize('backend', ['auto', *BOTH])
def test_batch_is_one_image_at_a_time(backend):
    images, probs = batch([3, 1, 12, 7])
    refined = dense_crf_batch(images, probs, epsilon=0.05, backend=backend)
    tensors = dense_crf_batch(
        images, [torch.from_numpy(p) for p in probs], epsilon=0.05, backend=backend
    )
    for image, prob, one, tensor in zip(images, probs, refined, tensors):
        expected = dense_crf(image, prob, epsilon=0.05, backend=backend)
        np.testing.assert_array_equal(one, expected)  # on a CPU
        np.testing.assert_array_equal(tensor.numpy(), expected)


@pytest.mark.parametrize('channels', [[3, 1, 12, 7], [1, 1], [2, 30]])
def test_one_lattice_for_a_batch(channels):
    """As on a GPU: channels that an image does not have stay exactly 0."""
    images, probs = batch([min(c, 12) for c in channels])
    probs = [np.resize(p, (c, *p.shape[1:])) for p, c in zip(probs, channels)]
    tensors = [torch.from_numpy(p) for p in probs]
    options = DenseCRFOptions()
    together = module._mean_field(torch.from_numpy(np.stack(images)), tensors, options)
    for image, prob, refined in zip(images, probs, together):
        alone = dense_crf(image, prob, backend='lattice')
        # softmax of another shape rounds otherwise; ten steps amplify it
        np.testing.assert_allclose(refined.numpy(), alone, rtol=0, atol=1e-5)
        np.testing.assert_allclose(refined.sum(0).numpy(), 1, rtol=1e-5)


def test_no_images():
    assert dense_crf_batch([], []) == []


def test_images_of_a_batch_have_one_size():
    images, probs = batch([3, 3])
    with pytest.raises(ValueError, match='one size'):
        dense_crf_batch([images[0], images[1][:5]], [probs[0], probs[1][:, :5]])
    with pytest.raises(ValueError, match='2 images and 1 prob'):
        dense_crf_batch(images, probs[:1])


@pytest.mark.parametrize('backend', BOTH)
@pytest.mark.parametrize('to', [np.asarray, torch.as_tensor], ids=['array', 'tensor'])
@pytest.mark.parametrize(
    'image, probs, message',
    [
        (np.zeros((4, 4, 3), np.uint8), np.ones((2, 5, 4)), 'uint8 RGB image'),
        (np.zeros((5, 4)), np.ones((2, 5, 4)), 'uint8 RGB image'),
        (np.zeros((5, 4, 3), np.float32), np.ones((2, 5, 4)), 'uint8 RGB image'),
        (np.zeros((5, 4, 3), np.uint8), np.ones((5, 4)), 'uint8 RGB image'),
        (np.zeros((5, 4, 3), np.uint8), np.ones((0, 5, 4)), 'empty'),
        (np.zeros((0, 4, 3), np.uint8), np.ones((2, 0, 4)), 'empty'),
        (np.zeros((5, 4, 3), np.uint8), np.full((2, 5, 4), np.inf), 'finite'),
        (np.zeros((5, 4, 3), np.uint8), np.full((2, 5, 4), np.nan), 'finite'),
    ],
)
def test_what_does_not_fit(image, probs, message, to, backend):
    with pytest.raises(ValueError, match=message):
        dense_crf(to(image), to(probs), backend=backend)
    with pytest.raises(ValueError, match=message):
        dense_crf_mask(to(image), to(probs), to(np.arange(len(probs))), backend=backend)


@pytest.mark.parametrize('labels', [[0, 255], [-1, 0], [0], [[0, 1]], [0.0, 1.0]], ids=str)
def test_labels_that_do_not_fit(labels):
    image, probs = make_image(0, channels=12)
    for to in (np.asarray, torch.as_tensor):
        with pytest.raises(ValueError, match='0..254'):
            dense_crf_mask(image, probs[:2], to(labels))


def test_label_254():
    image, probs = make_image(0, channels=12)
    assert dense_crf_mask(image, probs[:1], np.array([254])).mask.min() == 254


def test_unknown_backend():
    for channels in (1, 12):
        image, probs = make_image(0, channels=12)
        with pytest.raises(ValueError, match='backend must be one of'):
            dense_crf(image, probs[:channels], backend='gpu')


def test_auto_depends_on_the_size(monkeypatch):
    small, large = torch.ones(2, 64, 128), torch.ones(2, 65, 128)
    monkeypatch.setattr(module, 'find_spec', lambda name: name)
    assert module.choose_crf_backend('auto', small) == 'pydensecrf'
    assert module.choose_crf_backend('auto', large) == 'lattice'
    assert module.choose_crf_backend('pydensecrf', large) == 'pydensecrf'
    assert module.choose_crf_backend('auto', small.to('meta')) == 'lattice'
    monkeypatch.setattr(module, 'find_spec', lambda name: None)
    assert module.choose_crf_backend('auto', small) == 'lattice'


def test_without_pydensecrf(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf', None)
    image, probs = make_image(0)
    dense_crf(image, probs, backend='lattice')
    with pytest.raises(ImportError, match='pip install'):
        dense_crf(image, probs, backend='pydensecrf')


def test_the_spatial_kernel_is_kept_for_its_size_alone(monkeypatch):
    """Another size, width or weight gives another one."""
    made = []
    build = module.spatial_lattice

    def counting(*args):
        made.append(args)
        return build(*args)

    monkeypatch.setattr(module, 'spatial_lattice', counting)
    module._spatial_kernel.cache_clear()
    image, probs = make_image(0)
    expected = dense_crf(image, probs, backend='lattice')
    np.testing.assert_array_equal(dense_crf(image, probs, backend='lattice'), expected)
    assert len(made) == 1
    other = DenseCRFOptions(gaussian_weight=2.0)
    assert (dense_crf(image, probs, other, backend='lattice') != expected).any()
    dense_crf(image[:9], probs[:, :9], backend='lattice')
    assert len(made) == 3
    np.testing.assert_array_equal(dense_crf(image, probs, backend='lattice'), expected)
    monkeypatch.setattr(module, '_LARGEST_KEPT', 10)
    module._spatial_kernel.cache_clear()
    dense_crf(image, probs, backend='lattice')
    assert module._spatial_kernel.cache_info().currsize == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_gpu():
    images, probs = batch([3, 1, 12, 7])
    tensors = [torch.from_numpy(p).cuda() for p in probs]
    for image, prob, refined in zip(images, probs, dense_crf_batch(images, tensors)):
        assert refined.is_cuda
        expected = dense_crf(image, prob, backend='pydensecrf')
        np.testing.assert_allclose(refined.cpu().numpy(), expected, rtol=0, atol=2e-4)


@st.composite
def crf_inputs(draw):
    """Image of few colours and probabilities of 1 to 4 channels, any size."""
    size, channels = draw(sizes), draw(st.integers(1, 4))
    image = draw(hnp.arrays(np.uint8, (*size, 3), elements=st.sampled_from((0, 3, 255))))
    weights = draw(tensors((channels, *size))) + 1e-3
    return image, weights / weights.sum(0)


@pytest.mark.parametrize('backend', BOTH)
@few_examples
@given(inputs=crf_inputs(), epsilon=st.sampled_from((0.0, 0.02, 0.6)))
def test_refined_probabilities_of_any_image(backend, inputs, epsilon):
    image, probs = inputs
    options = DenseCRFOptions(num_iters=3)
    refined = dense_crf(image, probs, options, epsilon, backend)
    assert refined.shape == probs.shape and refined.dtype == torch.float32
    assert refined.min() >= 0 and refined.max() <= 1 + 1e-6
    assert_close(refined.sum(0), torch.ones(probs.shape[1:]), rtol=1e-5, atol=1e-5)
    weak = probs.amax((1, 2)) < epsilon
    weak[0] = False
    weak[probs.argmax(0).unique()] = False  # the largest of a pixel takes part
    assert not refined[weak].any()
    labels = torch.arange(len(probs)) * 3
    mask = dense_crf_mask(image, probs, labels, options, epsilon, backend).mask
    assert set(mask.ravel().tolist()) <= set(labels[~weak].tolist())


@pytest.mark.slow
@few_examples
@given(st.data(), crf_inputs())
def test_the_order_of_classes_does_not_matter(data, inputs):
    image, probs = inputs
    order = data.draw(permutation(len(probs)))
    refined = dense_crf(image, probs, backend='lattice')
    other = dense_crf(image, probs[order], backend='lattice')
    # sums over the classes in another order, ten iterations
    assert_close(other, refined[order], rtol=1e-4, atol=1e-5)


@given(crf_inputs(), st.data())
def test_label_pixels_of_any_probabilities(inputs, data):
    _, probs = inputs
    labels = data.draw(
        st.lists(st.integers(0, 254), min_size=len(probs), max_size=len(probs))
    )
    labelled = label_pixels(probs, torch.tensor(labels))
    winner = probs.argmax(0)
    assert labelled.mask.tolist() == torch.tensor(labels)[winner].tolist()
    for channel, mean in enumerate(labelled.confidence):
        won = probs[channel][winner == channel].double()
        assert (
            np.isnan(mean)
            if not len(won)
            else mean == pytest.approx(won.mean().item(), rel=1e-5)
        )
