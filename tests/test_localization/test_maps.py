"""What holds for maps of any size, class order and range."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from mmseg_more import localization as L
from mmseg_more.localization.maps import _BilinearResize
from strategies import maps, permutation, sizes, thresholds, unit_floats

WIDE = st.floats(-1e6, 1e6, width=32)


@given(maps(WIDE))
def test_normalised_maps_are_in_range(drawn):
    normalized = L.normalize_maps(drawn)
    assert normalized.amin(dim=(-2, -1)).eq(0).all() and normalized.max() <= 1
    # the order of the pixels stays
    flat, before = normalized.flatten(2), drawn.flatten(2)
    above = before[..., :, None] >= before[..., None, :]
    assert (flat[..., :, None] >= flat[..., None, :])[above].all()


def test_normalised_maps_leave_room_for_eps_alone():
    faint = torch.tensor([[[[0.0, 1e-5, 3e-5]]]])
    assert_close(L.normalize_maps(faint), torch.tensor([[[[0.0, 0.25, 0.75]]]]))
    normalized = L.normalize_maps(torch.tensor([[[[3.0, 5.0, 4.0]]]]), eps=2.0)
    assert_close(normalized, torch.tensor([[[[0.0, 0.5, 0.25]]]]))


@given(st.data(), maps(WIDE))
def test_normalisation_knows_neither_side_nor_class(data, drawn):
    order = data.draw(permutation(drawn.shape[1]))
    normalized = L.normalize_maps(drawn)
    assert_close(L.normalize_maps(drawn.flip(-1)), normalized.flip(-1), rtol=0, atol=0)
    assert_close(L.normalize_maps(drawn[:, order]), normalized[:, order], rtol=0, atol=0)


@given(maps(WIDE), sizes)
def test_a_flipped_image_has_the_flipped_map(drawn, size):
    image, flip = drawn, drawn.flip(-2) * 0.5
    merged = L.merge_flip(image, flip, size)
    assert merged.shape == (*drawn.shape[:2], *size)
    # what was the image is the flip now
    assert_close(L.merge_flip(flip, image, size), merged.flip(-1), rtol=0, atol=0)


@given(maps(WIDE), sizes)
def test_resized_maps_keep_their_range(drawn, size):
    resized = L.resize_map(drawn, size)
    lowest, highest = drawn.amin((-2, -1)), drawn.amax((-2, -1))
    # relative, and that of numbers too small to be normalised
    rounding = 1e-6 * drawn.abs().amax((-2, -1)) + torch.finfo(drawn.dtype).tiny
    assert (resized.amin((-2, -1)) >= lowest - rounding).all()
    assert (resized.amax((-2, -1)) <= highest + rounding).all()
    assert L.resize_map(drawn, drawn.shape[-2:]) is drawn


@given(maps())
def test_fused_maps(drawn):
    other = drawn.flip(-1)
    fused = L.fuse_maps(drawn, other)
    assert_close(L.fuse_maps(other, drawn), fused, rtol=0, atol=0)
    assert_close(fused, L.normalize_maps(drawn * other), rtol=0, atol=0)
    assert 0 <= fused.min() and fused.max() <= 1


@given(st.data(), st.integers(1, 4), st.integers(1, 5), sizes)
def test_similarities_are_dot_products(data, classes, channels, size):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    tokens = torch.randn(2, classes, channels, generator=generator)
    patches = torch.randn(2, channels, *size, generator=generator)
    similarities = L.class_patch_similarity(tokens, patches)
    expected = (tokens[:, :, :, None, None] * patches[:, None]).sum(2)
    assert_close(similarities, expected)


@given(maps(), st.floats(0, 0.999), thresholds())
def test_moved_threshold(drawn, threshold, pair):
    moved = L.move_threshold(drawn, threshold)
    assert ((0 <= moved) & (moved <= 1)).all()
    assert (moved[drawn == 0] == 0).all() and (moved[drawn == 1] == 1).all()
    low, high = (L.move_threshold(torch.full((1, 1), value), threshold) for value in pair)
    assert low <= high


@given(st.floats(1e-6, 0.999), st.floats(0.01, 0.99))
def test_the_threshold_comes_to_lie_at_the_target(threshold, target):
    there = torch.full((1, 1), threshold, dtype=torch.float64)
    moved = L.move_threshold(there, threshold, target)
    assert moved.item() == pytest.approx(target, rel=1e-9)


def test_each_map_has_a_threshold_of_its_own():
    drawn = torch.tensor([0.2, 0.6])[:, None, None].expand(2, 1, 3).double()
    moved = L.move_threshold(drawn, torch.tensor([0.2, 0.6], dtype=torch.float64))
    assert_close(moved, torch.full_like(moved, 0.5))


@given(sizes, unit_floats)
def test_scaled_sizes(size, scale):
    """Truncated, never rounded up, and never without a pixel."""
    if min(int(scale * side) for side in size) < 1:
        with pytest.raises(ValueError, match='leaves no pixel'):
            L.scaled_size(size, scale)
        return
    for side, scaled in zip(size, L.scaled_size(size, scale)):
        assert 1 <= scaled <= scale * side < scaled + 1


@pytest.mark.parametrize('scales', [(), (1.0, 0.0), (-1.0,)])
def test_scales_that_are_none(scales):
    with pytest.raises(ValueError, match='sizes must name at least one positive scale'):
        L.check_scales(scales, 'sizes')
    assert L.check_scales([1, 0.5], 'sizes') == (1.0, 0.5)


@pytest.mark.parametrize('size', [(28, 36), (7, 5), (3, 12)])
def test_gradient_of_a_resize_as_products(size):
    """What a GPU computes, against PyTorch's kernel."""
    maps = torch.randn(2, 3, 5, 9, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = F.interpolate(maps, size=size, mode='bilinear', align_corners=False)
    actual = _BilinearResize.apply(maps, size)
    assert torch.equal(actual, expected)
    gradients = [
        torch.autograd.grad(resized, maps, upstream)[0] for resized in (actual, expected)
    ]
    assert_close(*gradients, rtol=1e-12, atol=1e-12)
