"""The lattice in tensor operations against pydensecrf's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmseg_more.localization import (
    bilateral_filter,
    bilateral_filter_batch,
    build_lattice,
    filter_on_lattice,
)

SIGMA_RGB, SIGMA_XY = 15.0, 50.0


def _random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _smooth(batch_size, height, width):
    coarse = _random(batch_size, 3, 5, 5) * 255
    return F.interpolate(coarse, size=(height, width), mode='bicubic').clamp(0, 255)


IMAGES = dict(
    smooth=_smooth(1, 30, 34),
    noise=_random(1, 3, 20, 22) * 255,
    levels=(_random(2, 3, 24, 20, seed=1) * 255).byte().float(),
    constant=torch.full((1, 3, 13, 11), 77.0),
    black=torch.zeros(1, 3, 17, 19),
    # not a multiple of four points: pydensecrf adds vertices at the origin
    dark=5 + _random(1, 3, 1, 37, seed=2) * 30,
    row=_random(1, 3, 1, 37) * 255,
    pixel=_random(1, 3, 1, 1) * 255,
    batch=_smooth(3, 15, 17),
    shades=torch.arange(0, 256.0).expand(1, 3, 4, -1),
)


def _by_pydensecrf(images, values, sigma_rgb=SIGMA_RGB, sigma_xy=SIGMA_XY):
    return torch.from_numpy(
        np.stack(
            [
                bilateral_filter(image, value, sigma_rgb, sigma_xy)
                for image, value in zip(images.permute(0, 2, 3, 1).numpy(), values.numpy())
            ]
        )
    )


def _assert_equal(images, values, sigma_rgb=SIGMA_RGB, sigma_xy=SIGMA_XY):
    # positive sums of up to some 1000 float32 terms, in another order
    assert_close(
        bilateral_filter_batch(images, values, sigma_rgb, sigma_xy),
        _by_pydensecrf(images, values, sigma_rgb, sigma_xy),
        rtol=1e-5,
        atol=0,
    )


@pytest.mark.parametrize('channels', [1, 21, 81])
@pytest.mark.parametrize('name', IMAGES)
def test_equals_pydensecrf(name, channels):
    images = IMAGES[name]
    values = _random(len(images), channels, *images.shape[-2:], seed=2)
    _assert_equal(images, values)


@pytest.mark.parametrize(
    'sigma_rgb, sigma_xy', [(3.0, 67.0), (40.0, 3.0), (0.5, 0.5), (255.0, 10.0)]
)
@pytest.mark.parametrize('name', ['smooth', 'levels'])
def test_other_widths(name, sigma_rgb, sigma_xy):
    images = IMAGES[name]
    values = _random(len(images), 4, *images.shape[-2:])
    _assert_equal(images, values, sigma_rgb, sigma_xy)


def test_points_on_the_edges_of_simplices():
    """Positions that are multiples of a simple fraction of the kernel's width: many
    coordinates tie, and the order of operations decides."""
    steps = torch.arange(0, 240.0, 7.5)
    images = torch.stack(
        [steps.expand(32, -1), steps[:, None].expand(-1, 32), (steps + steps[:, None]) / 2]
    )[None]
    _assert_equal(images, _random(1, 3, 32, 32), 15.0, 4.0)


def test_an_image_does_not_depend_on_its_batch():
    images = torch.cat([IMAGES['batch'], IMAGES['batch'][:1]])
    values = _random(4, 5, 15, 17)
    values[3] = values[0]
    together = bilateral_filter_batch(images, values, SIGMA_RGB, SIGMA_XY)
    assert_close(together[3], together[0], rtol=1e-6, atol=0)
    for i in range(3):
        alone = bilateral_filter_batch(
            images[i : i + 1], values[i : i + 1], SIGMA_RGB, SIGMA_XY
        )
        assert_close(together[i : i + 1], alone, rtol=1e-6, atol=0)


def test_300_classes():
    images = IMAGES['levels']
    values = _random(2, 301, 24, 20)
    filtered = bilateral_filter_batch(images, values, SIGMA_RGB, SIGMA_XY)
    few = bilateral_filter_batch(images, values[:, 290:], SIGMA_RGB, SIGMA_XY)
    assert_close(filtered[:, 290:], few, rtol=1e-6, atol=0)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_filtered_in_float32(dtype):
    images, values = IMAGES['batch'].to(dtype), _random(3, 4, 15, 17).to(dtype)
    filtered = bilateral_filter_batch(images, values, SIGMA_RGB, SIGMA_XY)
    assert filtered.dtype == torch.float32
    assert torch.equal(
        filtered,
        bilateral_filter_batch(images.float(), values.float(), SIGMA_RGB, SIGMA_XY),
    )


def test_inputs_stay_as_they_are():
    images, values = IMAGES['batch'].clone(), _random(3, 4, 15, 17)
    before = values.clone()
    bilateral_filter_batch(images, values, SIGMA_RGB, SIGMA_XY)
    assert torch.equal(images, IMAGES['batch']) and torch.equal(values, before)


def test_lattice_is_consistent():
    features = _random(2, 5, 300) * 4
    lattice = build_lattice(features, [(0, 4)] * 5)
    count = len(lattice.starts)
    assert lattice.vertices.shape == lattice.weights.shape == (600, 6)
    assert_close(lattice.weights.sum(dim=1), torch.ones(600))
    assert lattice.weights.min() > -1e-6
    # the entries of a vertex are the points that name it
    touched = torch.zeros(count, 600).index_put_(
        (
            torch.repeat_interleave(
                torch.arange(count), torch.diff(lattice.starts, append=torch.tensor([3600]))
            ),
            lattice.entries.long(),
        ),
        lattice.entry_weights,
    )
    expected = torch.zeros(count, 600).index_put_(
        (lattice.vertices.long(), torch.arange(600)[:, None]), lattice.weights
    )
    assert torch.equal(touched, expected)
    # a neighbour's neighbour on the other side is the vertex itself
    for rows in lattice.neighbours.long():
        itself, before, after = rows.unbind(dim=1)
        assert torch.equal(itself, torch.arange(count))
        assert torch.equal(after[before][before != itself], itself[before != itself])


def test_two_features_approximate_the_gaussian():
    """The lattice is for any number of features. Its kernel is not normalised: the
    ratio to the Gaussian is one number, within the method's accuracy."""
    features = _random(1, 2, 2000) * 6
    lattice = build_lattice(features, [(0, 6)] * 2)
    exact = (-0.5 * torch.cdist(features[0].t(), features[0].t()) ** 2).exp()
    values = _random(2000, 1)
    ratio = filter_on_lattice(lattice, values) / (exact @ values)
    assert ratio.std() / ratio.mean() < 0.1


def test_colours_out_of_range_are_clamped():
    images = IMAGES['batch']
    values = _random(3, 2, 15, 17)
    dark, bright = images - 1000, images + 1000
    for wild, border in ((dark, -1.0), (bright, 256.0)):
        assert torch.equal(
            bilateral_filter_batch(wild, values, SIGMA_RGB, SIGMA_XY),
            bilateral_filter_batch(
                torch.full_like(images, border), values, SIGMA_RGB, SIGMA_XY
            ),
        )


def test_too_narrow_a_kernel():
    with pytest.raises(ValueError, match='use wider kernels'):
        bilateral_filter_batch(IMAGES['row'], _random(1, 2, 1, 37), 1e-3, 1e-3)


def test_wrong_number_of_bounds():
    with pytest.raises(ValueError, match='d bounds'):
        build_lattice(_random(1, 5, 4), [(0, 1)] * 4)


def test_gradient_of_the_filter():
    """It is linear in the values; positions get no gradient."""
    images = IMAGES['batch'].clone().requires_grad_()
    values = _random(3, 2, 15, 17).requires_grad_()
    weights, step = _random(3, 2, 15, 17, seed=1), _random(3, 2, 15, 17, seed=2)

    def total(values):
        return (weights * bilateral_filter_batch(images, values, SIGMA_RGB, SIGMA_XY)).sum()

    total(values).backward()
    assert images.grad is None
    assert_close((values.grad * step).sum(), total(step), rtol=1e-5, atol=0)
