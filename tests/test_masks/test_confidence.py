"""How sure masks are: by definition, on the way to a file, and calibrated."""

import io
import json
from logging import WARNING
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import mask_run
from mmseg_more.masks import (
    Calibration,
    ClassProbabilities,
    ConfidenceCurve,
    ConfidenceCurves,
    MapThreshold,
    MaskMaker,
    MaskRecipe,
    confidence_of,
    confidence_png,
    dense_crf,
    expected_iou,
    map_probabilities,
    probabilities_to_mask,
    seg_probabilities,
)
from mmseg_more.masks.confidence import even_odds
from scripts import load_script

CURVES = dict(
    pixel=dict(edges=[0, 0.5, 1], values=[0.25, 0.75]),
    image=dict(edges=[0, 0.2, 1], values=[0.1, 0.6]),
)


def example(size=(5, 7), channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(channels, *size, generator=generator)
    return ClassProbabilities(probs / probs.sum(0), torch.tensor([0, 4, 7])[:channels])


# ------------------------------------------------------------------ of one mask
def test_confidence_is_the_probability_of_the_shown_label():
    item = example()
    mask = probabilities_to_mask(item)
    found = confidence_of(mask, item)
    # 1e-6: they are divided by their sum
    np.testing.assert_allclose(found.pixels, item.probs.amax(0).numpy(), rtol=1e-6)
    assert found.pixels.dtype == np.float32
    other = torch.zeros_like(mask)  # a mask of another maker
    np.testing.assert_allclose(
        confidence_of(other, item).pixels, item.probs[0].numpy(), rtol=1e-6
    )


def test_expected_iou_is_that_of_the_definition():
    item = example()
    mask = probabilities_to_mask(item)
    ious = []
    for channel, label in zip(*item):
        inside = sum(
            float(channel[i, j]) for i in range(5) for j in range(7) if mask[i, j] == label
        )
        size = sum(int(v) for v in (mask == label).flatten())
        outside = float(channel.sum()) - inside
        if size:
            ious.append(inside / (size + outside))
    assert expected_iou(mask, item) == pytest.approx(np.mean(ious), abs=1e-6)


def test_expected_iou_of_certain_masks_is_one():
    labels = torch.tensor([0, 4, 7])
    mask = labels[torch.randint(0, 2, (4, 6), generator=torch.Generator().manual_seed(0))]
    certain = ClassProbabilities((mask == labels[:, None, None]).float(), labels)
    assert expected_iou(mask, certain) == 1  # a label that is not shown does not count
    # half of the pixels in doubt between the labels
    doubt = ClassProbabilities(torch.full((2, 4, 6), 0.5), labels[:2])
    assert expected_iou(torch.zeros(4, 6), doubt) == pytest.approx(0.5)


def test_threshold_becomes_one_half():
    maps = torch.tensor([[[0.0, 0.1, 0.2, 0.6, 1.0]], [[0.0, 0.05, 0.0, 0.7, 0.0]]])
    item = map_probabilities(maps, [0, 1])
    even = even_odds(item, 0.2)
    assert_close(even.probs[1, 0], torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert_close(even.probs[0, 0], torch.tensor([1.0, 0.75, 0.5, 1 - 0.8125, 0.0]))
    for bkg in (0.0, 0.2, 0.65):
        mask = probabilities_to_mask(item, bkg)
        assert torch.equal(mask, probabilities_to_mask(even_odds(item, bkg)))
        assert confidence_of(mask, item, bkg).pixels.min() >= 0.5
    assert even_odds(map_probabilities(maps, []), 0.2).probs.tolist() == [[[1.0] * 5]]


def test_the_bent_maps_of_the_crf_make_the_same_mask_but_other_confidence():
    """As the docstrings of both say."""
    maps = torch.tensor([[[0.0, 0.005, 0.1, 0.6, 1.0]]])
    for bkg, same in ((0.01, False), (0.5, True)):
        even = even_odds(map_probabilities(maps, [0]), bkg)
        bent = map_probabilities(maps, [0], threshold=bkg)
        assert torch.equal(probabilities_to_mask(even), probabilities_to_mask(bent))
        assert torch.allclose(even.probs, bent.probs) == same
    even = even_odds(map_probabilities(maps, [0]), 0.01)
    bent = map_probabilities(maps, [0], threshold=0.01)
    values = [float(item.probs[1, 0, 2]) for item in (even, bent)]
    assert values == pytest.approx([0.55, 0.71], abs=0.005)  # as rounded there


@pytest.mark.parametrize('workers', [0, 1])
def test_crf_gives_the_confidence_of_what_it_refined(workers):
    item = example((30, 40))
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    recipe = MaskRecipe(source='seg', policy='all', crf=dict(num_iters=2, epsilon=0.0))
    with MaskMaker(recipe.resolve(True, False), workers) as maker:
        made = maker.add('a', item, lambda: image)
        (made,) = made + maker.drain()
    options = type(dense_crf.__defaults__[0])(num_iters=2)
    refined = ClassProbabilities(dense_crf(image, item.probs, options), item.labels)
    expected = confidence_of(torch.from_numpy(made.mask), refined)
    np.testing.assert_allclose(made.mask_confidence.pixels, expected.pixels, atol=1e-6)
    assert made.mask_confidence.image == pytest.approx(expected.image, abs=1e-6)


def test_a_mask_without_probabilities_has_no_confidence():
    with MaskMaker(MaskRecipe(source='seg', policy='all').resolve(True, False)) as maker:
        (made,) = maker.add_mask(torch.zeros(2, 3).long())
        (failed,) = maker.fail(None, 'it failed')
    assert made.mask_confidence is None and failed.mask_confidence is None


# ------------------------------------------------------------------ calibration
def test_curve_is_the_isotonic_regression():
    count = np.array([0, 10, 10, 0, 20, 0])
    quality = np.array([0, 6, 2, 0, 18, 0])
    curve = ConfidenceCurve.fit(count, quality)
    # bins 1 and 2 fall and are pooled: 8 of 20
    assert curve.values.tolist() == pytest.approx([0.4, 0.9])
    assert curve.edges.tolist() == pytest.approx([0, 4 / 6, 1])
    found = curve(np.array([[0.0, 0.5], [4 / 6, 1.0]]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.4, 0.4], [0.9, 0.9]], rtol=1e-6)


def test_fitted_curve_calibrates_what_it_was_fitted_to():
    generator = np.random.default_rng(0)
    confidence = generator.random(20000)
    right = generator.random(20000) < confidence**3
    index = (confidence * 64).astype(int)
    curve = ConfidenceCurve.fit(np.bincount(index), np.bincount(index, right))
    # binomial noise of 300 pixels in each bin
    assert abs(curve(confidence) - confidence**3).max() < 0.1
    assert curve(confidence).mean() == pytest.approx(right.mean(), abs=1e-6)
    again = ConfidenceCurve.from_dict(json.loads(json.dumps(curve.to_dict())))
    np.testing.assert_allclose(again(confidence), curve(confidence), atol=1e-6)


def test_curve_needs_something_to_be_fitted_to():
    with pytest.raises(ValueError, match='fitted to nothing'):
        ConfidenceCurve.fit(np.zeros(4), np.zeros(4))


@pytest.mark.parametrize(
    'edges, values',
    [
        ([0, 1], [0.5, 0.6]),
        ([0.1, 1], [0.5]),
        ([0, 0.5, 1], [0.6, 0.5]),
        ([0, 0.5, 0.5, 1], [0.1, 0.2, 0.3]),
        ([0, 1], [1.5]),
        ([0, 1], [float('nan')]),
        ([0], []),
        ([0, 'x', 1], [0.1, 0.2]),
        (None, [0.1]),
    ],
)
def test_wrong_curves_are_refused(edges, values):
    with pytest.raises(ValueError, match='curve of confidence'):
        ConfidenceCurve.from_dict(dict(edges=edges, values=values))


def calibration(**curves):
    """Of the curves of some sources, as JSON has them."""
    return Calibration(
        confidence={name: ConfidenceCurves.from_dict(c) for name, c in curves.items()}
    )


def decided(*changes, **options):
    """A recipe of which everything is known."""
    recipe = MaskRecipe(**options)
    for change in changes:
        recipe = recipe.replace(**change)
    return recipe.resolve(True, True).calibrated(('disk', 'star'), 0.4, lambda: 0.45)


def raw_and_calibrated(curves):
    """A mask of :func:`example` without curves and with them."""
    item = example()
    options = dict(source='seg', policy='all', multi_scale=False)
    with MaskMaker(decided(**options)) as maker:
        (raw,) = maker.add('a', item, None)
    with MaskMaker(decided(**options, calibration=calibration(seg=curves))) as maker:
        (made,) = maker.add('a', item, None)
    return raw, made


def test_curves_change_the_confidence_and_not_the_mask():
    raw, made = raw_and_calibrated(CURVES)
    assert np.array_equal(made.mask, raw.mask)
    assert np.array_equal(made.confidence, raw.confidence, equal_nan=True)
    expected = np.where(raw.mask_confidence.pixels < 0.5, 0.25, 0.75)
    np.testing.assert_allclose(made.mask_confidence.pixels, expected)
    assert raw.mask_confidence.image > 0.2
    assert made.mask_confidence.image == pytest.approx(0.6)


def test_pixels_that_show_a_class_may_have_a_curve_of_their_own():
    both = dict(CURVES, foreground=dict(edges=[0, 1], values=[0.5]), settings={})
    curves = ConfidenceCurves.from_dict(both)
    assert curves.to_dict() == both
    raw, made = raw_and_calibrated(both)
    of_background = np.where(raw.mask_confidence.pixels < 0.5, 0.25, 0.75)
    expected = np.where(raw.mask > 0, 0.5, of_background)
    assert len(np.unique(expected)) == 3
    np.testing.assert_allclose(made.mask_confidence.pixels, expected)
    assert made.mask_confidence.image == pytest.approx(0.6)


def test_curves_of_other_masks_are_left_out():
    """And a warning says what differs; which classes may appear does not count."""
    fitted = dict(CURVES, settings=decided(source='lam').settings())
    options = dict(source='lam', calibration=calibration(lam=fitted))
    for change in ({}, dict(policy='predicted')):
        with mock.patch('mmseg_more.masks.recipe.print_log') as log:
            found = decided(change, **options)
        assert found.curves.pixel.values.tolist() == [0.25, 0.75] and not log.called
        assert found.bkg == 0.4  # a file without thresholds leaves them to the config
    for change, message in (
        (dict(bkg=0.5), 'bkg is 0.4 there, 0.5 now'),
        (dict(class_bkg=(0.4, 0.2)), "class_bkg is None there, {'disk': 0.4, 'star': 0.2}"),
        (dict(crf=True), 'crf is None there'),
        (dict(scales=(1.0,)), 'scales is'),
    ):
        with mock.patch('mmseg_more.masks.recipe.print_log') as log:
            found = decided(change, **options)
        assert found.curves is None and found.calibration is None
        (text, _, level), _ = log.call_args
        assert message in text and level == WARNING
    with pytest.raises(ValueError, match='no effect.*for masks of seg'):
        decided(dict(source='seg'), **options)


def test_one_file_has_thresholds_and_curves(tmp_path):
    """The curves are of the masks that its thresholds make, and are kept for others."""
    thresholds = dict(ms=dict(lam=MapThreshold(0.3, {'star': 0.6}), cam=MapThreshold(0.2)))
    path = tmp_path / 'c.json'
    Calibration(thresholds).save(path)
    plain = decided(source='lam', calibration=str(path))
    assert plain.curves is None
    curves = dict(CURVES, settings=plain.settings(('disk', 'star')))
    added = Calibration.load(path).with_confidence(calibration(lam=curves).confidence)
    added.save(path)
    found = decided(source='lam', calibration=str(path))
    assert (found.bkg, found.class_bkg) == (0.3, (0.3, 0.6))
    assert found.settings(('disk', 'star')) == curves['settings']
    assert found.curves.image.values.tolist() == [0.1, 0.6]
    assert not found.calibration.thresholds  # they are known
    assert decided(source='cam', calibration=str(path)).curves is None
    with mock.patch('mmseg_more.masks.recipe.print_log') as log:
        refined = decided(source='lam', calibration=str(path), crf=True)
    assert refined.class_bkg == (0.3, 0.6) and refined.curves is None and log.called


def test_confidence_of_some_classes_is_shared_among_them():
    """A segmentation that may show some classes only: theirs add up to 1."""
    logits = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0))
    item = seg_probabilities(logits, [0, 2])
    assert item.probs.sum(0).max() < 0.999
    mask = probabilities_to_mask(item)
    expected = logits[[0, 1, 3]].softmax(0)
    found = confidence_of(mask, item)
    np.testing.assert_allclose(found.pixels, expected.amax(0).numpy(), rtol=1e-5)
    whole = ClassProbabilities(expected, item.labels)
    assert found.image == pytest.approx(expected_iou(mask, whole), abs=1e-6)


# ------------------------------------------------------------------------ files
def test_png_holds_255_levels():
    pixels = np.array([[0.0, 0.5, 1.0]], np.float32)
    image = Image.open(io.BytesIO(confidence_png(pixels)))
    assert image.mode == 'L' and np.asarray(image).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize('crf', [False, dict(num_iters=2)])
def test_a_run_writes_confidence(data, outputs, tmp_path, crf):
    out = tmp_path / 'masks'
    mask_run.run_masks(data, out, confidence_maps=True, crf=crf)
    entries = mask_run.manifest(out)['images']
    for name, sample in outputs.items():
        probabilities = map_probabilities(
            sample.get('lam_ms').data, sample.gt_label.tolist()
        )
        mask = torch.from_numpy(mask_run.read_mask(out / f'{name}.png').copy())
        bkg = 0.5
        if crf:
            image = mask_run.cv2.imread(sample.img_path)[..., ::-1].copy()
            options = type(dense_crf.__defaults__[0])(num_iters=2)
            refined = dense_crf(image, probabilities.probs, options, epsilon=0.02)
            probabilities, bkg = ClassProbabilities(refined, probabilities.labels), None
        expected = confidence_of(mask, probabilities, bkg)
        # four digits are written
        assert entries[name]['image_confidence'] == pytest.approx(expected.image, abs=1e-4)
        levels = mask_run.read_mask(out / 'confidence' / f'{name}.png')
        # 255 levels, and the rounding of another number of threads
        assert abs(levels / 255 - expected.pixels).max() < 0.503 / 255


def test_a_run_goes_on_where_confidence_is_missing(data, finished, tmp_path):
    """No file without the option; a lost one is made again."""
    assert not (finished / 'confidence').exists()
    assert 'confidence_maps' not in mask_run.manifest(finished)['settings']
    out = tmp_path / 'masks'
    mask_run.run_masks(data, out, confidence_maps=True)
    before = mask_run.files(out)
    (out / 'confidence' / 'c.png').unlink()
    mask_run.run_masks(data, out, confidence_maps=True)
    assert mask_run.files(out) == before


def test_a_calibrated_run_says_so(data, tmp_path):
    out = tmp_path / 'masks'
    file = tmp_path / 'c.json'
    calibration(lam=CURVES).save(file)
    mask_run.run_masks(data, out, confidence_maps=True, calibration=str(file))
    manifest = mask_run.manifest(out)
    assert manifest['settings']['confidence_curve']['pixel'] == CURVES['pixel']
    values = {entry['image_confidence'] for entry in manifest['images'].values()}
    assert values <= {0.1, 0.6}
    levels = mask_run.read_mask(out / 'confidence' / 'a.png')
    assert set(np.unique(levels)) <= {64, 191}
    with pytest.raises(ValueError, match='made in another way'):
        mask_run.run_masks(data, out, confidence_maps=True)


def test_confidence_maps_are_no_masks(data, tmp_path, repo_root):
    module = load_script(repo_root / 'tools/analysis/evaluate_masks.py')
    mask_run.run_masks(data, tmp_path / 'masks', confidence_maps=True)
    assert module.mask_names(tmp_path / 'masks', None) == sorted(mask_run.IMAGES)
