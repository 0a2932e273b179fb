"""Images above ``max_pixels``: the size that they are worked on at, and the way back."""

import numpy as np
import pytest
import torch

from mmseg_more.masks import (
    ClassProbabilities,
    ConfidenceCurve,
    ConfidenceCurves,
    MaskMaker,
    MaskRecipe,
    dense_crf_mask,
    soft_map,
)
from mmseg_more.masks import recipe as recipe_module
from mmseg_more.masks.confidence import confidence_of
from mmseg_more.masks.large_images import (
    MAX_PIXELS,
    check_max_pixels,
    full_size_mask,
    shrink_image,
    shrink_probabilities,
    worked_size,
)
from mmseg_more.masks.probabilities import probabilities_to_mask


# ---------------------------------------------------------------------- the limit
@pytest.mark.parametrize('wrong', [0, -1, '100', 1.5, True, float('nan')])
def test_what_is_no_limit(wrong):
    message = 'max_pixels must be a whole number of at least 1, or None'
    with pytest.raises(ValueError, match=message):
        check_max_pixels(wrong)
    with pytest.raises(ValueError, match=message):
        MaskRecipe(max_pixels=wrong)


def test_the_default_leaves_voc_and_coco_alone():
    recipe = MaskRecipe().resolve(True, True)
    assert recipe.max_pixels == MAX_PIXELS
    for size in ((500, 500), (640, 640), (1000, 1000)):
        assert worked_size(size, recipe.max_pixels) == size
    assert worked_size((4000, 6000), None) == (4000, 6000)


@pytest.mark.parametrize(
    'size, limit, expected',
    [
        ((4000, 6000), 10**6, (816, 1224)),
        ((20000, 100), 10**6, (14142, 70)),
        ((5, 400), 500, (2, 200)),
        ((1, 10**6), 1000, (1, 1000)),
        ((10**6, 1), 1000, (1000, 1)),
        ((3000, 2), 1000, (1000, 1)),
        ((7, 7), 1, (1, 1)),
    ],
)
def test_worked_size(size, limit, expected):
    assert worked_size(size, limit) == expected
    assert expected[0] * expected[1] <= limit


def test_settings_name_the_limit_where_it_is_another():
    recipe = MaskRecipe(source='lam', crf=True).resolve(True, True)
    assert 'max_pixels' not in recipe.settings()
    assert recipe.replace(max_pixels=None).settings()['max_pixels'] is None
    assert recipe.replace(max_pixels=5).resolve(True, True).settings()['max_pixels'] == 5


def test_the_estimate_of_maps(monkeypatch):
    monkeypatch.setattr(recipe_module, 'map_bytes', lambda size, channels: channels)
    lam = MaskRecipe(source='lam').resolve(True, True)
    assert lam.policy == 'image-labels'
    assert lam.map_bytes((2, 2), 20, [3, 4, 5]) == 4
    assert lam.map_bytes((2, 2), 20) == 3
    assert MaskRecipe(source='seg').resolve(True, False).map_bytes((2, 2), 20) == 21


# ----------------------------------------------------------------- sizes of arrays
def test_means_over_areas():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    small = shrink_image(pixels, (2, 3))
    expected = pixels.reshape(2, 2, 3, 2, 3).mean((1, 3))
    assert abs(small - expected).max() <= 0.5
    assert shrink_image(pixels, (4, 6)) is pixels
    probs = torch.from_numpy(pixels[..., :2].transpose(2, 0, 1).astype(np.float32))
    found = shrink_probabilities(ClassProbabilities(probs, torch.arange(2)), (2, 3))
    torch.testing.assert_close(found.probs[0], torch.tensor(expected[..., 0]).float())


def example(size, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(channels, *size, generator=generator)
    return ClassProbabilities(probs / probs.sum(0), torch.tensor([0, 4, 7])[:channels])


def picture(size, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (*size, 3), np.uint8)


def test_without_a_guide_it_is_the_mask_of_interpolated_maps():
    item, size = example((6, 5)), (40, 33)
    whole = ClassProbabilities(
        torch.nn.functional.interpolate(item.probs[None], size, mode='bilinear')[0],
        item.labels,
    )
    for bkg in (None, 0.4):
        mask, confidence = full_size_mask(item, size, bkg=bkg)
        expected = probabilities_to_mask(whole, bkg)
        assert (mask == expected.numpy()).all()
        np.testing.assert_allclose(
            confidence, confidence_of(expected, whole, bkg).pixels, atol=1e-5
        )


# -------------------------------------------------------------------------- maker
CRF = dict(num_iters=2, bilateral_sxy=5.0, epsilon=0.0)


def recipe(**options):
    return MaskRecipe(source='seg', policy='all', **options).resolve(True, False)


def make(recipe, item, image, size=None, workers=0):
    with MaskMaker(recipe, workers) as maker:
        made = maker.add('a.jpg', item, lambda: image, 'payload', size=size)
        return (made + maker.drain())[0]


@pytest.mark.parametrize('workers', [0, 1])
def test_the_crf_of_a_large_image_is_that_of_the_low_size(workers, one_thread):
    image, low = picture((60, 40)), (30, 20)
    item = example(low)
    made = make(recipe(crf=CRF, max_pixels=600), item, image, (60, 40), workers)
    refined = dense_crf_mask(
        shrink_image(image, low),
        item.probs,
        item.labels,
        epsilon=0.0,
        keep_probs=True,
        options=type(dense_crf_mask.__defaults__[0])(num_iters=2, bilateral_sxy=5.0),
    )
    at_low = ClassProbabilities(torch.from_numpy(refined.probs), item.labels)
    mask, confidence = full_size_mask(at_low, (60, 40), image)
    assert made.error is None and made.payload == 'payload'
    assert made.worked_size == low
    assert np.array_equal(made.mask, mask) and made.mask.shape == (60, 40)
    np.testing.assert_array_equal(made.mask_confidence.pixels, confidence)
    np.testing.assert_array_equal(made.confidence, refined.confidence)
    assert made.mask_confidence.image == refined.mask_confidence.image


def test_probabilities_of_the_full_size_are_reduced():
    """As where the hook alone writes masks: the network has seen the whole image."""
    image, item = picture((60, 40)), example((60, 40))
    made = make(recipe(crf=CRF, max_pixels=600), item, image)
    reduced = shrink_probabilities(item, (30, 20))
    expected = make(recipe(crf=CRF, max_pixels=600), reduced, image, (60, 40))
    assert made.worked_size == (30, 20) and np.array_equal(made.mask, expected.mask)


@pytest.mark.parametrize('crf', [False, CRF])
def test_up_to_the_limit_nothing_changes(crf):
    image, item = picture((30, 20)), example((30, 20))
    made = make(recipe(crf=crf, max_pixels=600), item, image)
    expected = make(recipe(crf=crf, max_pixels=None), item, image)
    assert made.worked_size is None and np.array_equal(made.mask, expected.mask)
    pixels = made.mask_confidence.pixels
    np.testing.assert_array_equal(pixels, expected.mask_confidence.pixels)


def test_without_crf():
    made = make(recipe(max_pixels=600), example((30, 20)), None, (60, 40))
    mask, confidence = full_size_mask(example((30, 20)), (60, 40))
    assert made.worked_size == (30, 20) and np.array_equal(made.mask, mask)
    np.testing.assert_array_equal(made.mask_confidence.pixels, confidence)


def test_calibrated_confidence():
    halves = ConfidenceCurve([0, 0.5, 1], [0.25, 0.75])
    with MaskMaker(recipe(max_pixels=600)) as maker:
        maker._curves = ConfidenceCurves(halves, halves, {})
        (made,) = maker.add('a', example((30, 20)), None, size=(60, 40))
    _, raw = full_size_mask(example((30, 20)), (60, 40))
    assert np.array_equal(made.mask_confidence.pixels, halves(raw))


def test_soft_maps_keep_their_size():
    """A quarter of the image, whatever it was worked on at."""
    import io

    for low in ((30, 20), (6, 4)):
        item = example(low)
        found = np.load(io.BytesIO(soft_map(item, (60, 40))))
        assert found['size'].tolist() == [60, 40]
        assert found['probs'].shape == (3, 15, 10)
        assert abs(found['probs'].astype(int).sum(0) - 255).max() <= 2


def test_an_image_that_cannot_be_read_again():
    """It was there for the CRF, and is gone when its mask comes back."""
    images = [picture((60, 40))]

    def read():
        if not images:
            raise OSError('a.jpg is gone')
        return images.pop()

    with MaskMaker(recipe(crf=CRF, max_pixels=600), 0) as maker:
        made = maker.add('a.jpg', example((30, 20)), read, 'payload', size=(60, 40))
    assert [(one.mask, one.error, one.payload) for one in made] == [
        (None, 'a.jpg is gone', 'payload')
    ]
