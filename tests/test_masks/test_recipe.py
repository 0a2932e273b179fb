"""Options of a mask: defaults, what the model and the data decide, what is refused."""

import pytest
import torch
from mmengine.structures import PixelData

from mmseg_more.masks import PREDICTION, Calibration, DenseCRFOptions, MaskRecipe
from mmseg_more.models.structures import MASK_SCALES, SEG_SCALES, LocalizationRequest

from mmseg.structures import SegDataSample


def resolved(localizes=True, with_labels=True, augmented=False, **options):
    return MaskRecipe(**options).resolve(localizes, with_labels, augmented)


@pytest.mark.parametrize(
    'model, options, expected',
    [
        (dict(), dict(), ('lam', MASK_SCALES, 'image-labels')),
        (dict(), dict(multi_scale=False), ('lam', (1.0,), 'image-labels')),
        (dict(), dict(source='seg'), ('seg', SEG_SCALES, 'image-labels')),
        (dict(), dict(source='seg', multi_scale=False), ('seg', None, 'image-labels')),
        (dict(), dict(source='cam', scales=[2, 1]), ('cam', (2.0, 1.0), 'image-labels')),
        (dict(with_labels=False), dict(source='seg'), ('seg', SEG_SCALES, 'all')),
        (
            dict(with_labels=False),
            dict(policy='predicted'),
            ('lam', MASK_SCALES, 'predicted'),
        ),
        (dict(localizes=False), dict(), ('seg', None, 'image-labels')),
        (dict(localizes=False, with_labels=False), dict(), ('seg', None, 'all')),
        (dict(augmented=True, with_labels=False), dict(), ('seg', None, 'all')),
    ],
)
def test_what_the_model_and_the_data_decide(model, options, expected):
    recipe = resolved(**model, **options)
    assert (recipe.source, recipe.scales, recipe.policy) == expected
    # resolving twice changes nothing
    assert recipe.resolve(model.get('localizes', True), False) == recipe


@pytest.mark.parametrize(
    'model, options, message',
    [
        (dict(localizes=False), dict(source='lam'), "'lam' needs the segmentor MoRe"),
        (dict(localizes=False), dict(scales=(1.0,)), 'other models take .* --tta'),
        (dict(augmented=True), dict(source='cam'), 'leave out --tta'),
    ],
)
def test_what_the_model_cannot_give(model, options, message):
    with pytest.raises(ValueError, match=message):
        resolved(**model, **options)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(crf=dict(epsilon=1.0)), r'epsilon must lie in \[0, 1\)'),
        (dict(crf=dict(backend='gpu')), "backend must be one of .* got 'gpu'"),
        (dict(crf=dict(iters=3)), r"unknown keys \['iters'\], known are num_iters"),
    ],
)
def test_settings_of_the_crf_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MaskRecipe(**options)


def test_settings_of_the_crf():
    assert MaskRecipe().crf is None and MaskRecipe(crf=None).crf is None
    every = dict(DenseCRFOptions()._asdict(), epsilon=0.02, backend='auto')
    assert MaskRecipe(crf=True).crf == MaskRecipe(crf={}).crf == every
    given = MaskRecipe(crf=dict(num_iters=3, backend='lattice')).crf
    assert given == dict(every, num_iters=3, backend='lattice')
    # manifests of before know no backend: 'auto' is not written
    assert 'backend' not in resolved(crf=True).settings()['crf']
    assert resolved(crf=dict(backend='lattice')).settings()['crf']['backend'] == 'lattice'


@pytest.mark.parametrize('value', [-0.01, 1, 1.5, float('nan')])
def test_thresholds_that_are_none(value):
    for options in (dict(bkg=value), dict(class_bkg=[0.5, value])):
        with pytest.raises(ValueError, match=r'bkg must lie in \[0, 1\), got'):
            MaskRecipe(**options)
    assert MaskRecipe(bkg=0).bkg == 0


def test_a_file_of_thresholds_is_no_threshold_yet():
    recipe = MaskRecipe(source='lam', bkg=Calibration())
    with pytest.raises(ValueError, match='is for calibrated.. to look up'):
        _ = recipe.mask_threshold


def test_a_threshold_counts_where_it_decides():
    assert resolved(bkg=0.3).bkg == 0.3 and not resolved(bkg=0.3).needs_bkg
    assert resolved().needs_bkg
    for options in (dict(crf=True), dict(source='seg')):
        recipe = resolved(bkg=0.3, **options)
        assert recipe.bkg is None and not recipe.needs_bkg


def test_the_time_for_the_crf():
    assert MaskRecipe().crf_timeout == PREDICTION.crf_timeout == 3600
    given = MaskRecipe(crf=True, crf_timeout=7).resolve(True, True)
    assert given.crf_timeout == 7
    # no mask depends on it: a folder goes on with another one
    assert given.settings() == given.replace(crf_timeout=None).settings()
    for wrong in (0, -1, float('nan')):
        with pytest.raises(ValueError, match='crf_timeout must be positive seconds'):
            MaskRecipe(crf_timeout=wrong)


def test_the_plain_prediction():
    recipe = PREDICTION.resolve(localizes=True, with_labels=False)
    assert recipe.is_prediction and recipe.request() is None
    for changes in (dict(scales=(1.0,)), dict(crf=True), dict(policy='predicted')):
        recipe = PREDICTION.replace(**changes).resolve(True, False)
        assert not recipe.is_prediction
    assert PREDICTION.replace(scales=(1.0, 2.0)).multi_scale
    with pytest.raises(TypeError, match=r"unknown options of a mask \['sorce'\]"):
        PREDICTION.replace(sorce='lam')


def test_the_request_names_the_classes_that_are_needed():
    request = resolved(policy='predicted').request()
    assert request == LocalizationRequest(
        ('lam',), (), (), MASK_SCALES, (), policy='predicted', logits=False
    )
    assert resolved(source='seg').request().policy == 'all'
    # beside a hook that wants the maps of all classes
    both = resolved(policy='predicted').request(LocalizationRequest(('cam',)))
    assert both.maps == ('cam', 'lam') and both.policy == 'all' and both.logits
    # each kind of mask looks at the scales of its own kind
    seg, lam = resolved(source='seg'), resolved()
    at_others = LocalizationRequest(ms_scales=(3.0,))
    assert seg.request(at_others)._asdict() == dict(
        at_others._asdict(), seg_scales=SEG_SCALES
    )
    at_others = LocalizationRequest(seg_scales=(3.0,), policy='image-labels')
    assert lam.request(at_others).ms_scales == MASK_SCALES
    for recipe, kind in ((seg, 'seg_scales'), (lam, 'ms_scales')):
        with pytest.raises(ValueError, match=f'another hook asks for {kind}='):
            recipe.request(LocalizationRequest(**{kind: (3.0,)}))
    with pytest.raises(ValueError, match="maps of policy='predicted'.*give both the same"):
        resolved().request(LocalizationRequest(policy='predicted'))


def test_maps_of_some_classes_and_of_all_give_the_same():
    maps = torch.rand(5, 4, 6)
    allowed, recipe = [1, 3], resolved()
    every, some = SegDataSample(), SegDataSample()
    every.lam_ms = PixelData(data=maps)
    some.lam_ms = PixelData(data=maps[allowed])
    some.set_field(torch.tensor(allowed), 'map_indices')
    for one, two in zip(
        recipe.probabilities(every, allowed), recipe.probabilities(some, allowed)
    ):
        assert torch.equal(one, two)
    with pytest.raises(ValueError, match=r'maps of the classes \[1, 3\], not of \{2\}'):
        recipe.probabilities(some, [2])


def test_the_classes_that_may_appear():
    sample = SegDataSample()
    with pytest.raises(ValueError, match='the data sample has none: pack them'):
        resolved().allowed(sample)
    with pytest.raises(ValueError, match='needs a model that predicts image labels'):
        resolved(policy='predicted').allowed(sample)
    sample.set_field(torch.tensor([0.0, 1.0, 1.0]), 'gt_score')
    assert resolved().allowed(sample) == [1, 2]
    sample.set_field(torch.tensor([0]), 'pred_label')
    assert resolved(policy='predicted').allowed(sample) == [0]
    assert resolved(source='seg', policy='all').allowed(sample) is None
