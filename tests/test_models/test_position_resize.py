"""Positions resized by matrix products, against the backbone's own."""

from functools import partial

import pytest
import torch

from mmseg_more.models.backbones.position_resize import (
    cubic_weights,
    resize_by_products,
    resize_on_gpu,
)
from tiny_model import tiny_model


def by_products(*args):
    """For an image that is not square."""
    return resize_by_products(*args, image_size=(64, 65))


@pytest.mark.parametrize('resize', [by_products, resize_on_gpu])
@pytest.mark.parametrize('interpolate', ['offset', 'size', 'antialias'])
@pytest.mark.parametrize(
    'grid', [(8, 11), (5, 9), (28, 28), (1, 2), (8, 3), (16, 16), (8, 8)]
)
def test_as_interpolated(resize, interpolate, grid):
    backbone = tiny_model().backbone
    backbone.interpolate = interpolate
    torch.nn.init.normal_(backbone.pos_embed)
    # sums in another order; values are up to 4
    torch.testing.assert_close(
        backbone._resized_by(resize, grid),
        backbone._positions(grid, (64, 65)),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize('antialias', [False, True])
def test_inference_mode_spoils_no_later_training(antialias):
    """The matrices that are kept from it are saved for the backward pass."""
    table = torch.randn(1, 6, 7, 4, requires_grad=True)
    with torch.inference_mode():
        resize_on_gpu(table, (13, 17), 0.1, antialias)
    resize_on_gpu(table, (13, 17), 0.1, antialias).sum().backward()
    assert table.grad.abs().sum() > 0


@pytest.mark.parametrize('interpolate', ['offset', 'size', 'antialias'])
def test_the_own_grid_stays_as_it_is(interpolate):
    backbone = tiny_model().backbone
    backbone.interpolate = interpolate
    torch.nn.init.normal_(backbone.pos_embed)
    square = partial(resize_by_products, image_size=(65, 65))
    positions = backbone._resized_by(square, backbone.grid_size)
    torch.testing.assert_close(positions, backbone.pos_embed, rtol=0, atol=0)


def test_weights_of_known_samples():
    identity = cubic_weights(3, 3, torch.ones(1))
    torch.testing.assert_close(identity, torch.eye(3), rtol=0, atol=0)
    # half way between two values: (-3, 19, 19, -3) / 32 of PyTorch's kernel
    middle = cubic_weights(1, 4, torch.full((1,), 4.0))
    expected = torch.tensor([[-3.0, 19.0, 19.0, -3.0]]) / 32
    torch.testing.assert_close(middle, expected)
