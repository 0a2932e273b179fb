"""Operations on maps and labels against the reference figures."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from golden import Golden
from mmseg_more import localization as L

OPS = Golden('ops')


def _share_of_difference(actual, expected):
    return (actual != expected.long()).float().mean().item()


def test_par():
    refined = L.pixel_adaptive_refinement(OPS['image_u8'].float() / 255, OPS['par.masks'])
    assert_close(refined, OPS['par.out'], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('high, low', [(0.7, 0.25), (0.5, 0.25), (0.6, 0.35), (0.65, 0.25)])
def test_two_thresholds(high, low):
    labels = L.maps_to_labels(OPS['cam'], OPS['label'], high, low)
    assert _share_of_difference(labels, OPS[f'cam_to_label.{high}.{low}']) == 0


def test_one_threshold():
    labels = L.maps_to_labels(OPS['cam'], OPS['label'], 0.5)
    assert _share_of_difference(labels, OPS['cam_to_label.bkg0.5']) == 0


def test_refined_labels():
    labels = L.refine_labels(
        OPS['image_u8'].float() / 255, OPS['cam'], OPS['label'], 0.7, 0.25
    )
    # a pixel may flip where two scores tie
    assert _share_of_difference(labels, OPS['refined']) <= 1e-3


def test_refined_labels_without_any_class():
    labels = L.refine_labels(
        OPS['image_u8'].float() / 255, OPS['cam'], torch.zeros_like(OPS['label']), 0.7, 0.25
    )
    assert (labels == 0).all()


def test_refinement_of_an_image_does_not_depend_on_the_batch():
    images = OPS['image_u8'].float() / 255
    both = L.refine_labels(images, OPS['cam'], OPS['label'], 0.7, 0.25)
    for i in range(2):
        alone = L.refine_labels(
            images[i : i + 1], OPS['cam'][i : i + 1], OPS['label'][i : i + 1], 0.7, 0.25
        )
        assert _share_of_difference(alone[0], both[i]) <= 1e-3


def test_affinity_pairs():
    assert torch.equal(L.affinity_pairs(OPS['mask'].long()), OPS['aff'])


def test_bilateral_filter_is_linear_and_nearly_symmetric():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 255, (12, 10, 3))
    u, v = generator.random((2, 3, 12, 10)).astype(np.float32)

    def filtered(values):
        return L.bilateral_filter(image, values, 15.0, 20.0)

    np.testing.assert_allclose(
        filtered(u + 2 * v), filtered(u) + 2 * filtered(v), rtol=1e-4
    )
    # the exact kernel is symmetric; the order of the lattice's blurs is not
    np.testing.assert_allclose((u * filtered(v)).sum(), (v * filtered(u)).sum(), rtol=1e-2)


def test_normalized_maps_are_in_the_unit_interval():
    maps = torch.randn(2, 3, 5, 7) * 10
    maps[0, 0] = 4.0
    result = L.normalize_maps(maps)
    assert result.min() == 0 and result.max() < 1
    assert (result[0, 0] == 0).all()


@pytest.mark.parametrize('scales', [(), (1.0, 0.0), (-1.0,)])
def test_scales_must_be_positive(scales):
    with pytest.raises(ValueError, match='positive scale'):
        L.check_scales(scales, 'scales')


def test_scale_that_leaves_nothing():
    with pytest.raises(ValueError, match='leaves no pixel'):
        L.scaled_size((3, 100), 0.2)


def test_thresholds_in_the_wrong_order():
    with pytest.raises(ValueError, match='must not be above'):
        L.maps_to_labels(OPS['cam'], OPS['label'], 0.2, 0.5)
