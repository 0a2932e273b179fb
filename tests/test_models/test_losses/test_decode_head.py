"""The losses as `loss_decode` of MMSegmentation's heads."""

import pytest
import torch
from torch.testing import assert_close

import stock_model
from mmseg_more.engine.hooks import LossImagesHook
from mmseg_more.models import losses as L

from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS

# the energy is so small that the default absolute tolerance would pass anything
RELATIVE = dict(rtol=1e-5, atol=0)
IMAGES = ('DenseEnergyLoss',)
PIXELS = ('BalancedCrossEntropyLoss', 'DenseEnergyLoss', 'PatchAffinityLoss')
OTHERS = (
    'ConfidentRelationLoss',
    'UncertainRelationLoss',
    'TokenDiscriminationLoss',
    'MultiLabelSoftMarginLoss',
)


def losses_of(model):
    """Of a training pass, without an update."""
    data = model.data_preprocessor(stock_model.batch(), True)
    return model(**data, mode='loss')


def with_loss(*types, **options):
    losses = [dict(type=kind, **options) for kind in types]
    return stock_model.build(decode_head=dict(loss_decode=losses))


def test_all_losses_are_covered():
    named = {name for name in L.__all__ if name.endswith('Loss')}
    assert named == {*PIXELS, *OTHERS}


def test_of_one_head():
    model = with_loss('CrossEntropyLoss', *PIXELS)
    LossImagesHook().attach(model)
    losses = losses_of(model)
    keys = {key for key in losses if 'loss' in key}
    assert keys == {f'decode.loss_{name}' for name in ('ce', 'seg', 'energy', 'ptc')}
    for key in keys:
        model.zero_grad()
        losses[key].backward(retain_graph=True)
        assert model.decode_head.conv_seg.weight.grad.abs().sum() > 0, key


@pytest.mark.parametrize('kind', PIXELS)
def test_name_and_weight(kind):
    logged = []
    for options in (dict(), dict(loss_weight=3.0, loss_name='loss_mine')):
        model = with_loss(kind, **options)
        if kind in IMAGES:
            LossImagesHook().attach(model)
        logged.append(losses_of(model))
    assert 'decode.loss_mine' in logged[1]
    (name,) = set(logged[0]) - {'decode.acc_seg'}
    assert_close(logged[1]['decode.loss_mine'], 3 * logged[0][name], **RELATIVE)


@pytest.mark.parametrize('kind', PIXELS)
def test_ignored_label_is_that_of_the_head(kind):
    """Another number for the ignored label, and nothing else, changes nothing."""
    loss = MODELS.build(dict(type=kind))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 12, 10, generator=generator)
    labels = torch.randint(0, 3, (2, 12, 10), generator=generator)
    images = [255 * torch.rand(2, 3, 12, 10, generator=generator)] * (kind in IMAGES)
    labels[:, :4] = 255
    expected = loss(logits, labels, *images)
    labels[labels == 255] = 3
    found = loss(logits, labels, *images, weight=None, ignore_index=3)
    assert_close(found, expected, **RELATIVE)
    assert (loss(logits, labels, *images) - expected).abs() > 1e-6 * expected.abs()


def test_balanced_cross_entropy_with_weights_of_pixels():
    """Weights of 0 and 1 leave pixels out; they still count in the average, as in
    MMSegmentation's cross entropy."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 4, 4, generator=generator)
    labels = torch.ones(1, 4, 4, dtype=torch.long)
    weight = (torch.rand(1, 4, 4, generator=generator) < 0.5).float()
    expected = CrossEntropyLoss()(logits, labels, weight=weight)
    found = L.BalancedCrossEntropyLoss()(logits, labels, weight=weight)
    assert_close(found, expected / 2)  # there is no background


def test_balanced_cross_entropy_with_a_sampler():
    model = stock_model.build(
        decode_head=dict(
            loss_decode=dict(type='BalancedCrossEntropyLoss'),
            sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100),
        )
    )
    assert losses_of(model)['decode.loss_seg'] > 0


@pytest.mark.parametrize('kind', ['DenseEnergyLoss', 'PatchAffinityLoss'])
def test_pairs_have_no_weights_of_pixels(kind):
    logits, labels = torch.randn(1, 3, 4, 4), torch.ones(1, 4, 4, dtype=torch.long)
    images = [torch.rand(1, 3, 4, 4)] * (kind in IMAGES)
    with pytest.raises(ValueError, match=f'{kind} compares.*leave out the `sampler`'):
        MODELS.build(dict(type=kind))(logits, labels, *images, weight=torch.ones(1, 4, 4))


def test_energy_without_images_says_what_hands_them_on():
    with pytest.raises(TypeError, match='DenseEnergyLoss.*LossImagesHook'):
        losses_of(with_loss('DenseEnergyLoss'))


@pytest.mark.parametrize('kind', OTHERS)
def test_others_say_why_not(kind):
    model = with_loss(kind)
    with pytest.raises(TypeError, match=f'{kind} is a loss of the segmentor MoRe.*reads'):
        losses_of(model)


def test_affinity_of_logits_at_image_size():
    logits = torch.empty(1, 2, 129, 128)
    labels = torch.ones(1, 129, 128, dtype=torch.long)
    with pytest.raises(ValueError, match='129x128 are more than 16384.*PatchAffinityHead'):
        L.PatchAffinityLoss()(logits, labels)
