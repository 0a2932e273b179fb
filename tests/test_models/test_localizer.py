"""Passes without a gradient: in chunks, and for the classes that are present."""

import functools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.testing import assert_close

from mmseg_more import localization as L
from mmseg_more.localization.present import present_classes
from mmseg_more.models import LocalizationRequest
from mmseg_more.models.segmentors import localizer
from strategies import few_examples
from tiny_model import batch, tiny_config, tiny_model

LABELS = [1, 0, 1], [0, 1, 0], [0, 0, 0]


def chunked(chunk_size, **overrides):
    scales = dict(scales=(1.0, 0.5), chunk_size=chunk_size)
    return tiny_model(5000, localization=scales, **overrides)


def watched(model):
    """List that gets the number and size of the images of every pass."""
    seen = []
    model.backbone.register_forward_hook(
        lambda module, args, out: seen.append(
            (len(args[0]), args[0].shape[-1], torch.is_grad_enabled())
        )
    )
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    'chunk_size, expected',
    [
        (None, [(3, 64), (3, 64), (6, 32)]),
        (100, [(3, 64), (3, 64), (6, 32)]),
        (2, [(3, 64), (2, 64), (1, 64), (2, 32), (2, 32), (2, 32)]),
        (1, [(3, 64)] + 3 * [(1, 64)] + 6 * [(1, 32)]),
    ],
)
def test_chunks_of_a_training_step(chunk_size, expected):
    """The training pass itself is never cut; all others record no gradient."""
    inputs, samples = batch(*LABELS)
    model = chunked(chunk_size)
    seen = watched(model)
    torch.manual_seed(0)
    losses = model.loss(inputs, samples)
    assert [call[:2] for call in seen] == expected
    assert [call[2] for call in seen] == [True] + (len(expected) - 1) * [False]
    torch.manual_seed(0)
    assert_close(losses, chunked(None).loss(inputs, samples), rtol=1e-4, atol=1e-6)


def test_chunks_of_maps_and_segmentation():
    inputs, _ = batch(*LABELS)
    request = LocalizationRequest(
        maps=('cam', 'lam', 'fused', 'attention'),
        ms_scales=(1.0, 0.5),
        seg_scales=(1.0, 0.5),
    )
    model = chunked(4).eval()
    seen = watched(model)
    found = model.localizer.shared_passes(inputs, request)
    assert [call[:2] for call in seen] == [(4, 64), (2, 64), (4, 32), (2, 32)]
    assert_close(
        found,
        chunked(None).eval().localizer.shared_passes(inputs, request),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize('chunk_size', [0, -1])
def test_impossible_chunks(chunk_size):
    with pytest.raises(ValueError, match=f'chunk_size must be .* got {chunk_size}'):
        chunked(chunk_size)


def test_fastest_chunk(monkeypatch):
    """Parts of equal size whose hidden layer fits; on another device one part."""
    monkeypatch.setattr(localizer, '_CPU_PASS_BYTES', 1000)
    images = torch.zeros(8, 3, 1, 1)
    found = [
        localizer.fastest_chunk(images, size) for size in (10, 125, 126, 333, 400, 5000)
    ]
    assert found == [8, 8, 4, 3, 2, 1]
    assert localizer.fastest_chunk(images.to('meta'), 5000) == 8


def test_hidden_bytes():
    backbone = tiny_model().backbone
    seen = []
    backbone.layers[0].ffn.layers[0].register_forward_hook(
        lambda module, args, out: seen.append(out.nbytes)
    )
    backbone(torch.zeros(1, 3, 40, 64))
    assert seen == [backbone.hidden_bytes((40, 64))]


def test_cams_of_the_present_classes():
    inputs, samples = batch(*LABELS)
    model = tiny_model()
    tokens = model.extract_feat(inputs)
    present = present_classes(torch.tensor(LABELS))
    chosen = model.localizer.training_cams(inputs, tokens, present)
    every = model.localizer.training_cams(inputs, tokens)
    assert chosen.cam.shape == (3, 2, 64, 64) and every.cam.shape == (3, 3, 64, 64)
    for some, of_all in zip(chosen, every):
        assert_close(some, present.select(of_all), rtol=0, atol=0)


@pytest.mark.slow
def test_losses_as_from_the_cams_of_all_classes(monkeypatch):
    """The step works on the present classes alone and nothing else changes."""
    from mmseg_more.localization.present import PresentClasses
    from mmseg_more.models.segmentors import more

    inputs, samples = batch(*LABELS)
    torch.manual_seed(0)
    losses = tiny_model(5000).loss(inputs, samples)
    monkeypatch.setattr(
        more,
        'present_classes',
        lambda labels, _: PresentClasses(torch.arange(3).expand_as(labels), labels),
    )
    torch.manual_seed(0)
    assert_close(losses, tiny_model(5000).loss(inputs, samples), rtol=1e-6, atol=1e-8)


def test_localization_keys():
    with pytest.raises(ValueError, match="unknown keys \\['chunks'\\].*'chunk_size'"):
        tiny_model(localization=dict(chunks=1))
    assert tiny_model(localization=None).localizer.scales == (1.0, 0.5, 0.75, 1.5)
    assert tuple(tiny_config().localization.scales) == (1.0, 0.5)


@pytest.mark.parametrize('limit', [1, 2 * 4 * 3 * 8 * 8, 2**20])
@pytest.mark.parametrize('relu', [True, False])
def test_merged_and_normalised_a_few_classes_at_a_time(monkeypatch, limit, relu):
    """1 class, 3 of 5 and all at once are the same; several sums share the work."""
    monkeypatch.setattr(localizer, '_CPU_MAP_BYTES', limit)
    maps, flipped = torch.randn(2, 2, 5, 4, 4).unbind()
    totals = [torch.zeros(2, 5, 8, 8), torch.ones(2, 5, 8, 8)]
    merged = L.merge_flip(maps, flipped, (8, 8))
    merged = merged.relu() if relu else merged
    localizer.add_merged(totals, maps, flipped, relu)
    assert_close(totals, [merged, 1 + merged], rtol=0, atol=0)
    expected = L.normalize_maps(totals[0])
    assert_close(localizer.normalize_in_place(totals[0]), expected, rtol=0, atol=0)
    assert_close(totals[0], expected, rtol=0, atol=0)


def test_two_views_merge_into_the_maps():
    model = tiny_model().eval()
    inputs, _ = batch(*LABELS)
    seen = watched(model)
    image = model.localizer.view(inputs)
    assert seen == [(3, 64, False)]  # its flip is another view
    flip = model.localizer.view(inputs.flip(-1))
    maps = model.localize(inputs)
    size = inputs.shape[-2:]
    # images and flips in one pass or in two: sums in another order
    tolerance = dict(rtol=1e-4, atol=1e-5)
    cam = L.normalize_maps(L.merge_flip(image.cam, flip.cam, size).relu())
    assert_close(maps.cam, cam, **tolerance)
    lam = L.normalize_maps(L.merge_flip(image.lam, flip.lam, size))
    assert_close(maps.lam, lam, **tolerance)
    with torch.no_grad():
        assert_close(image.segmentation, model(inputs), **tolerance)
        scores = model.image_logits(model.extract_feat(inputs))[0]
    assert_close(image.scores, scores, **tolerance)


@functools.lru_cache
def evaluated_model():
    return tiny_model().eval()


@pytest.mark.slow
@few_examples
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from(((1.0,), (0.5,), (1.0, 0.5))),
    st.integers(1, 2),
)
def test_maps_of_a_flipped_image_are_flipped(cells, scales, batch_size):
    """Where the patches are: what is too narrow for one is cut off on the right."""
    # a map of a single patch is one value, and roundings when it is normalised
    assume(cells != (1, 1) or 1.0 in scales)
    size = tuple(16 * count for count in cells)
    inputs = torch.randn(batch_size, 3, *size, generator=torch.Generator().manual_seed(0))
    model = evaluated_model()
    maps, flipped = model.localize(inputs, scales), model.localize(inputs.flip(-1), scales)
    for name, value in maps._asdict().items():
        # images and flips change places in the batch of a pass
        assert_close(getattr(flipped, name).flip(-1), value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
@few_examples
@given(st.tuples(st.integers(16, 40), st.integers(16, 40)))
def test_images_of_any_size(size):
    inputs = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    for value in evaluated_model().localize(inputs, (1.0, 0.5)):
        assert value.shape == (1, 3, *size)
        assert value.min() >= 0 and value.max() <= 1


def test_passes_are_planned_for_what_is_asked():
    """Nothing is run for a map that nobody asked for; both parts of the fused one are."""

    def plan(*maps, **scales):
        return localizer._plan(LocalizationRequest(maps=maps, **scales))

    one = (1.0,)
    assert plan('lam') == dict(lam=('lam', one))
    assert plan('attention', lam_scales=()) == {}
    assert plan('fused') == dict(cam=('cam', one), lam=('lam', one))
    assert plan('cam', ms_scales=(2.0,)) == dict(cam=('cam', one), cam_ms=('cam', (2.0,)))
