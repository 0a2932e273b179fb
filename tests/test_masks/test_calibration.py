"""Thresholds in a file: what is read and written, what is refused, and what masks do."""

import json

import pytest
import torch
from mmengine.structures import PixelData

from mmseg_more.localization import move_threshold
from mmseg_more.masks import (
    Calibration,
    ConfidenceCurves,
    MapThreshold,
    MaskMaker,
    MaskRecipe,
    map_probabilities,
)

from mmseg.structures import SegDataSample

NAMES = ('disk', 'star')
THRESHOLDS = dict(
    raw=dict(cam=MapThreshold(0.2), lam=MapThreshold(0.4, {'star': 0.1})),
    ms=dict(cam=MapThreshold(0.15), lam=MapThreshold(0.3, {'star': 0.6})),
)


@pytest.fixture
def path(tmp_path):
    Calibration(THRESHOLDS, dict(checkpoint='a.pth')).save(tmp_path / 'new' / 'c.json')
    return str(tmp_path / 'new' / 'c.json')


# ------------------------------------------------------------------------- the file
def test_what_is_written_is_read(path):
    read = Calibration.load(path)
    assert read == Calibration(THRESHOLDS, dict(checkpoint='a.pth'))
    assert json.loads(open(path).read()) == dict(
        version=1,
        thresholds=dict(
            raw=dict(
                cam=dict(bkg=0.2, classes={}), lam=dict(bkg=0.4, classes=dict(star=0.1))
            ),
            ms=dict(
                cam=dict(bkg=0.15, classes={}), lam=dict(bkg=0.3, classes=dict(star=0.6))
            ),
        ),
        source=dict(checkpoint='a.pth'),
    )


def test_curves_of_confidence_are_in_the_same_file(path):
    curve = dict(edges=[0.0, 0.5, 1.0], values=[0.2, 0.9])
    lam = dict(pixel=curve, image=curve, settings=dict(source='lam', scales=[1.0]))
    first = Calibration.load(path)
    first.with_confidence(dict(lam=ConfidenceCurves.from_dict(lam))).save(path)
    seg = dict(pixel=curve, image=curve, settings={})
    second = Calibration.load(path)
    second.with_confidence(dict(seg=ConfidenceCurves.from_dict(seg))).save(path)
    read = Calibration.load(path)
    assert read.as_dict() == dict(first.as_dict(), confidence=dict(lam=lam, seg=seg))
    assert read.thresholds == THRESHOLDS
    alone = read.without_thresholds()
    assert not alone.thresholds and set(alone.confidence) == {'lam', 'seg'}


def test_a_failed_save_leaves_the_file(path):
    before = open(path).read()
    with pytest.raises(ValueError):
        Calibration({}, dict(value=float('nan'))).save(path)
    assert open(path).read() == before


def content(**changes):
    return dict(dict(version=1, thresholds=dict(raw=dict(cam=dict(bkg=0.1)))), **changes)


@pytest.mark.parametrize(
    'wrong, message',
    [
        ([], 'the file must be an object, got list'),
        (content(version=2), 'version must be 1, got 2'),
        (dict(version=1), '`thresholds` and `confidence` are both missing'),
        (content(confidence=dict(attention={})), 'confidence has unknown keys'),
        (content(confidence=dict(seg=dict(pixel=1))), 'confidence.seg: .* pixel, image'),
        (content(threshold={}), r"the file has unknown keys \['threshold'\]"),
        (content(confidence=[1]), 'confidence must be an object, got list'),
        (content(source=3), 'source must be an object'),
        (
            content(thresholds=dict(one={})),
            r"thresholds has unknown keys \['one'\].* raw, ms",
        ),
        (content(thresholds=dict(raw=dict(seg={}))), r'thresholds.raw has unknown keys'),
        (content(thresholds=dict(ms=dict(cam={}))), '`thresholds.ms.cam.bkg` is missing'),
        (
            content(thresholds=dict(ms=dict(cam=dict(bkg='x')))),
            r"thresholds.ms.cam.bkg must be a number in \[0, 1\), got 'x'",
        ),
        (
            content(thresholds=dict(ms=dict(cam=dict(bkg=0, classes=dict(star=1))))),
            r'thresholds.ms.cam.classes.star must be a number in \[0, 1\), got 1',
        ),
    ],
)
def test_wrong_files_are_named(tmp_path, wrong, message):
    file = tmp_path / 'c.json'
    file.write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match=f'c.json is no calibration file: {message}'):
        Calibration.load(file)


def test_missing_and_torn_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no calib.* file .*c\.json.*--calibrate'):
        Calibration.load(tmp_path / 'c.json')
    (tmp_path / 'c.json').write_text('{"version":')
    with pytest.raises(ValueError, match=r'c\.json is not valid JSON'):
        Calibration.load(tmp_path / 'c.json')


def test_thresholds_that_are_not_there(path):
    file = Calibration.load(path)
    with pytest.raises(
        ValueError, match=r"c\.json has no threshold of the map 'fused' at s"
    ):
        file.threshold('fused', 'ms')
    with pytest.raises(ValueError, match='has no thresholds of maps of several scales'):
        Calibration(dict(raw=THRESHOLDS['raw'])).threshold('cam', 'ms')
    with pytest.raises(
        ValueError, match=r"c\.json: .*unknown classes \('star'\).*'disk', 'ring'"
    ):
        file.named(file.threshold('lam', 'ms'), ('disk', 'ring'))


# -------------------------------------------------------------------- bent maps
def test_the_threshold_moves_and_the_order_stays():
    maps = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    maps[:, 0, 0], maps[:, 0, 1] = 0, 1
    maps[0, 1, 1], maps[1, 1, 1] = 0.1, 0.7
    own = torch.tensor([0.1, 0.7])
    moved = move_threshold(maps, own)
    torch.testing.assert_close(moved[:, 1, 1], torch.tensor([0.5, 0.5]))
    assert (moved[:, 0, 0] == 0).all() and (moved[:, 0, 1] == 1).all()
    assert torch.equal(moved.flatten(1).argsort(), maps.flatten(1).argsort())
    away = (maps - own[:, None, None]).abs() > 1e-6  # 1e-6: roundings at the threshold
    assert torch.equal((moved > 0.5)[away], (maps > own[:, None, None])[away])
    torch.testing.assert_close(move_threshold(maps, 0.3, 0.3), maps)
    torch.testing.assert_close(move_threshold(maps, 0.5), maps)
    assert move_threshold(maps, 0.0)[:, 0, 0].tolist() == [0, 0]


def test_a_calibrated_background_is_the_complement_of_the_bent_map():
    maps = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    published = map_probabilities(maps, [0, 1])
    assert torch.equal(published.probs, torch.cat([1 - maps.amax(0, True), maps]))
    for threshold in (0.2, (0.2, 0.6)):
        probs = map_probabilities(maps, [1], threshold=threshold).probs
        own = threshold if isinstance(threshold, float) else threshold[1]
        bent = move_threshold(maps[1:], own)
        torch.testing.assert_close(probs, torch.cat([1 - bent, bent]))
    shown = map_probabilities(maps[1:], [1], torch.tensor([1]), (0.2, 0.6)).probs
    torch.testing.assert_close(shown, probs)
    empty = map_probabilities(maps, [], threshold=(0.2, 0.6)).probs
    assert torch.equal(empty, torch.ones(1, 4, 4))


# ------------------------------------------------------------------ the recipe
def decided(evaluated=None, classes=NAMES, **options):
    recipe = MaskRecipe(**options).resolve(localizes=True, with_labels=True)
    return recipe.calibrated(classes, evaluated, lambda: 0.45)


def test_who_decides_on_the_threshold(path):
    assert decided().bkg == 0.45
    assert decided(0.2).bkg == 0.2
    assert decided(0.2, bkg=0.3).bkg == 0.3
    assert decided(path, bkg=0.3).bkg == 0.3
    for recipe in (decided(path), decided(0.2, bkg=path), decided(0.2, calibration=path)):
        assert (recipe.bkg, recipe.class_bkg) == (0.3, (0.3, 0.6))
    single = decided(source='lam', multi_scale=False, calibration=path)
    assert (single.bkg, single.class_bkg) == (0.4, (0.4, 0.1))
    cam = decided(source='cam', calibration=path)
    assert (cam.bkg, cam.class_bkg) == (0.15, None)
    assert decided(path, source='seg').bkg is None


def test_the_published_background_is_the_default(path):
    for options in (dict(), dict(bkg=0.2), dict(bkg=path)):
        recipe = decided(crf=True, **options)
        assert recipe.settings() == decided(crf=True).settings()
        assert recipe.settings().keys() == {'source', 'scales', 'classes', 'bkg', 'crf'}
    recipe = decided(crf=True, source='cam', bkg=0.2, background='calibrated')
    assert (recipe.background, recipe.bkg) == ('calibrated', 0.2)
    recipe = decided(crf=True, source='lam', calibration=path)
    settings = recipe.settings(NAMES)
    assert settings['background'] == 'calibrated'
    assert settings['class_bkg'] == dict(disk=0.3, star=0.6)
    assert decided(path, crf=True, background='calibrated').bkg == 0.3


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(calibration='FILE', bkg=0.1), 'both give thresholds'),
        (dict(calibration='FILE', source='seg'), 'no effect: .*masks of seg. Leave it out'),
        (dict(background='calibrated', source='seg'), "take source='lam'"),
        (dict(calibration='FILE', crf=True, background='complement'), 'the published back'),
        (dict(background='half'), 'background must be one of complement, calibrated'),
        (dict(class_bkg=(0.2, 1.0)), r'must lie in \[0, 1\), got 1.0'),
        (dict(class_bkg=(0.2,)), 'each of the 2 classes, got 1'),
    ],
)
def test_wrong_options(path, options, message):
    options = {key: path if value == 'FILE' else value for key, value in options.items()}
    with pytest.raises(ValueError, match=message):
        decided(**options)


def test_a_file_of_other_classes(path):
    with pytest.raises(ValueError, match=r'c\.json: .*unknown classes'):
        decided(calibration=path, classes=('disk', 'ring'))


# ------------------------------------------------------------------------ masks
def make_mask(recipe, maps):
    sample = SegDataSample()
    sample.set_data(dict(gt_label=torch.tensor([0, 1])))
    sample.set_data({f'{recipe.source}_ms': PixelData(data=maps)})
    with MaskMaker(recipe, num_workers=0) as maker:
        probabilities = recipe.probabilities(sample, recipe.allowed(sample))
        (made,) = maker.add('a', probabilities, None)
    return torch.from_numpy(made.mask)


def test_masks_by_a_file_show_what_is_above_the_own_threshold(path):
    maps = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(0))
    shared = make_mask(decided(source='cam', calibration=path), maps)
    expected = torch.where(maps.amax(0) > 0.15, maps.argmax(0) + 1, 0)
    assert torch.equal(shared.long(), expected)
    own = make_mask(decided(calibration=path), maps)
    above = maps > torch.tensor([0.3, 0.6])[:, None, None]
    assert torch.equal(own == 0, ~above.any(0))
    alone = above.sum(0) == 1
    assert alone.any()
    assert torch.equal(own[alone].long(), above.long().argmax(0)[alone] + 1)
