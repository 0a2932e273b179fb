"""Each loss and its gradient against the reference figures."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from golden import Golden
from mmseg_more.models import losses as losses_module
from mmseg_more.models.losses import (
    BalancedCrossEntropyLoss,
    ConfidentRelationLoss,
    DenseEnergyLoss,
    PatchAffinityLoss,
    TokenDiscriminationLoss,
    UncertainRelationLoss,
    balanced_cross_entropy,
    confident_relation_loss,
    select_uncertain_tokens,
    token_discrimination_loss,
    uncertain_relation_loss,
)

OPS = Golden('ops')
LABEL = OPS['label']


def _leaf(key):
    return OPS[key].requires_grad_()


def _check(loss, key, leaf=None, grad=None, rtol=1e-5, skip=None):
    assert_close(loss.detach().double(), OPS[key], rtol=rtol, atol=1e-9)
    if leaf is not None:
        loss.backward()
        actual, expected = leaf.grad.clone(), OPS[grad]
        if skip is not None:
            actual[skip] = expected[skip] = 0
        assert_close(actual, expected, rtol=rtol, atol=rtol * expected.abs().max().item())


@pytest.mark.parametrize('tau, skip', [(0.5, None), (0.1, (0, 3))])
def test_confident_relation(tau, skip):
    tokens, patches = _leaf('tokens'), _leaf('fmap')
    loss = ConfidentRelationLoss(temperature=tau)(
        tokens, patches, OPS['mask'].long(), LABEL
    )
    _check(loss, f'cre.{tau}.loss', tokens, f'cre.{tau}.grad_tokens', skip=skip)
    assert patches.grad is None  # the patches are detached


@pytest.mark.parametrize('key', ['ure', 'ure_few', 'ure_none'])
def test_uncertain_relation(key):
    mask = OPS['mask' if key == 'ure' else f'{key}.mask'].long()
    tokens, patches = _leaf('tokens'), _leaf('fmap')
    torch.manual_seed(int(OPS[f'{key}.torch_seed']))
    loss = UncertainRelationLoss()(tokens, patches, mask, LABEL)
    _check(loss, f'{key}.loss', patches, f'{key}.grad_fmap')
    assert tokens.grad is None  # the class tokens are detached
    if key != 'ure':
        torch.manual_seed(int(OPS[f'{key}.torch_seed']))
        counts = select_uncertain_tokens(mask).image.bincount(minlength=2)
        assert torch.equal(counts, OPS[f'{key}.counts'])


def test_patch_affinity():
    patches = _leaf('fmap')
    loss = PatchAffinityLoss()(patches, OPS['mask'].long())
    _check(loss, 'ptc.loss', patches, 'ptc.grad_fmap')


def test_token_discrimination():
    tokens = _leaf('tokens')
    _check(TokenDiscriminationLoss()(tokens), 'token.loss', tokens, 'token.grad_tokens')


def test_segmentation():
    logits = _leaf('seg_logits')
    full = F.interpolate(
        logits, size=OPS['refined'].shape[-2:], mode='bilinear', align_corners=False
    )
    criterion = BalancedCrossEntropyLoss()
    _check(criterion(full, OPS['refined'].long()), 'seg.loss', logits, 'seg.grad')
    for key, value in (('seg_bgonly', 0), ('seg_ignored', 255)):
        labels = torch.full_like(OPS['refined'], value).long()
        _check(criterion(full, labels), f'{key}.loss')


@pytest.mark.parametrize('backend', ['auto', 'lattice', 'pydensecrf'])
def test_energy(backend):
    logits = _leaf('seg_logits')
    full = F.interpolate(
        logits, size=OPS['refined'].shape[-2:], mode='bilinear', align_corners=False
    )
    loss = DenseEnergyLoss(backend=backend)(
        full, OPS['refined'].long(), OPS['image_u8'].float()
    )
    _check(loss, 'energy.loss', logits, 'energy.grad', rtol=1e-4)


@pytest.mark.parametrize(
    'name',
    [
        'ConfidentRelationLoss',
        'UncertainRelationLoss',
        'PatchAffinityLoss',
        'TokenDiscriminationLoss',
    ],
)
def test_loss_weight(name):
    arguments = dict(
        ConfidentRelationLoss=('tokens', 'fmap', 'mask', 'label'),
        UncertainRelationLoss=('tokens', 'fmap', 'mask', 'label'),
        PatchAffinityLoss=('fmap', 'mask'),
        TokenDiscriminationLoss=('tokens',),
    )[name]
    values = [OPS[k].long() if k == 'mask' else OPS[k] for k in arguments]
    results = []
    for weight in (1.0, 0.5):
        torch.manual_seed(0)
        results.append(getattr(losses_module, name)(loss_weight=weight)(*values))
    assert_close(results[0] * 0.5, results[1])


# ------------------------------------------------------------ properties
def _cre_reference(tokens, patches, labels, image_labels, tau):
    """docs/method.md, section 6, word for word, in whatever precision is given."""
    total = 0.0
    for b in range(len(tokens)):
        for k in image_labels[b].nonzero().flatten().tolist():
            z = torch.exp(F.normalize(tokens[b, k], dim=0) @ patches[b].flatten(1) / tau)
            chosen = labels[b].flatten() == k + 1
            if z.sum() == 0:
                terms = -torch.log(1 / (1 + z.sum() + 1e-4)).expand(len(z))
            else:
                terms = -torch.log(z / (z.sum() + 1e-4))
            total = total + terms[chosen].sum() / (chosen.sum() + 1e-4)
    return total / len(tokens)


def test_confident_relation_is_stable_for_large_tokens():
    """exp() overflows in float32 here; loss and gradient are float64's."""
    tokens, patches = OPS['tokens'], OPS['fmap'] * 20
    labels = OPS['mask'].long()
    exact = tokens.double().requires_grad_()
    expected = _cre_reference(exact, patches.double(), labels, LABEL, 0.1)
    naive = _cre_reference(tokens, patches, labels, LABEL, 0.1)
    assert not torch.isfinite(naive)
    tokens = tokens.clone().requires_grad_()
    actual = confident_relation_loss(tokens, patches, labels, LABEL, 0.1)
    expected.backward()
    actual.backward()
    if torch.isfinite(expected):
        assert_close(actual.detach().double(), expected.detach(), rtol=1e-4, atol=0)
    assert torch.isfinite(tokens.grad).all()


def test_confident_relation_where_everything_vanishes():
    """All z are 0 in float32: the value the reference gives, and the gradient
    of float64, in which they are not."""
    tokens = torch.zeros(1, 1, 4)
    tokens[..., 0] = 1.0
    patches = torch.full((1, 4, 2, 2), 0.0)
    patches[:, 0] = -torch.tensor([[60.0, 61.0], [62.0, 63.0]])
    patches[:, 1] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    labels = torch.ones(1, 2, 2).long()
    exact = tokens.double().requires_grad_()
    _cre_reference(exact, patches.double(), labels, torch.ones(1, 1), 0.5).backward()
    tokens.requires_grad_()
    loss = confident_relation_loss(tokens, patches, labels, torch.ones(1, 1), 0.5)
    loss.backward()
    assert_close(loss.item(), math.log1p(1e-4), rtol=1e-3, atol=0)
    assert_close(tokens.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('offset', [0, 3])
def test_uncertain_token_is_the_corner_or_the_cell(offset):
    """One uncertain cell at (5, 6) in a field of class: the reference takes
    the token at (2, 3), the corrected variant the cell itself."""
    labels = torch.ones(1, 12, 14).long()
    labels[0, 5, 6] = 255
    chosen = select_uncertain_tokens(
        labels, max_tokens=3, centered=bool(offset)
    )  # (3 - 1) // 4 = 0 extra
    assert chosen.image.tolist() == [0]
    assert chosen.row.tolist() == [2 + offset]
    assert chosen.column.tolist() == [3 + offset]


def test_uncertain_relation_without_an_interior():
    patches = torch.randn(1, 4, 6, 9, requires_grad=True)
    tokens = torch.randn(1, 2, 4)
    state = torch.get_rng_state()
    loss = UncertainRelationLoss()(
        tokens, patches, torch.full((1, 6, 9), 255), torch.ones(1, 2)
    )
    loss.backward()
    assert loss == 0 and (patches.grad == 0).all()
    assert torch.equal(state, torch.get_rng_state())


def test_uncertain_relation_draws_once_per_image():
    """n = 5..8 adds nothing and still draws, as the reference does."""
    labels = torch.ones(1, 12, 12).long()
    labels[0, 4, 3:9] = 255
    torch.manual_seed(0)
    chosen = select_uncertain_tokens(labels)
    assert len(chosen.row) == 6
    after = torch.get_rng_state()
    torch.manual_seed(0)
    torch.randperm(int((labels[0, 3:9, 3:9] == 1).sum()))
    assert torch.equal(after, torch.get_rng_state())


@pytest.mark.parametrize('name', ['cre', 'ure', 'ptc', 'mct', 'seg'])
def test_gradcheck(name):
    torch.manual_seed(0)
    tokens = torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True)
    patches = torch.randn(2, 4, 8, 9, dtype=torch.double, requires_grad=True)
    present = torch.tensor([[1.0, 0, 1], [0, 1, 0]], dtype=torch.double)
    labels = torch.randint(0, 4, (2, 8, 9))
    labels[:, 2:5, 3:6] = 255
    positions = select_uncertain_tokens(labels)
    function, inputs = dict(
        cre=(
            lambda t: confident_relation_loss(t, patches, labels, present, 0.5),
            (tokens,),
        ),
        ure=(lambda p: uncertain_relation_loss(tokens, p, present, positions), (patches,)),
        ptc=(lambda p: PatchAffinityLoss()(p, labels), (patches,)),
        mct=(token_discrimination_loss, (tokens,)),
        seg=(lambda p: balanced_cross_entropy(p, labels), (patches,)),
    )[name]
    assert torch.autograd.gradcheck(function, inputs)


def test_no_present_class_gives_zero():
    tokens = torch.randn(1, 3, 4, requires_grad=True)
    loss = confident_relation_loss(
        tokens, torch.randn(1, 4, 5, 5), torch.zeros(1, 5, 5).long(), torch.zeros(1, 3), 0.5
    )
    loss.backward()
    assert loss == 0 and (tokens.grad == 0).all()


@pytest.mark.parametrize(
    'build',
    [
        lambda: ConfidentRelationLoss(temperature=0),
        lambda: TokenDiscriminationLoss(temperature=-1),
        lambda: UncertainRelationLoss(max_tokens=0),
        lambda: DenseEnergyLoss(sigma_rgb=0),
        lambda: DenseEnergyLoss(backend='gpu'),
    ],
)
def test_impossible_settings(build):
    with pytest.raises(ValueError, match='must be'):
        build()


def test_confident_relation_counts_present_classes_alone():
    """Labels of a class that the image does not have are none of its patches."""
    tokens, patches = torch.randn(2, 3, 4), torch.randn(2, 4, 2, 3)
    labels = torch.tensor([[[1, 2, 3], [1, 2, 3]], [[0, 2, 255], [1, 2, 3]]])
    present = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    actual = confident_relation_loss(tokens, patches, labels, present, 0.5)
    expected = _cre_reference(tokens, patches, labels, present, 0.5)
    assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_default_temperatures_are_the_modules():
    tokens = torch.randn(2, 3, 4)
    assert_close(token_discrimination_loss(tokens), TokenDiscriminationLoss()(tokens))
    expected = token_discrimination_loss(tokens, 0.07)
    assert_close(token_discrimination_loss(tokens), expected, rtol=0, atol=0)


@pytest.mark.parametrize('size', [(7, 9), (9, 7), (7, 7)])
def test_an_interior_of_one_row_or_column(size):
    labels = torch.ones(1, *size).long()
    labels[0, 3:-3, 3:-3] = 255
    chosen = select_uncertain_tokens(labels, max_tokens=3)  # nothing is added to 0 to 3
    cells = torch.ones(size[0] - 6, size[1] - 6).nonzero()
    assert torch.stack([chosen.row, chosen.column], dim=1).tolist() == cells.tolist()


def test_each_half_is_divided_by_a_little_more_than_its_pixels():
    """That keeps a half without pixels at 0."""
    logits = torch.zeros(1, 2, 1, 2, dtype=torch.float64)
    background = balanced_cross_entropy(logits, torch.tensor([[[0, 255]]]))
    both = balanced_cross_entropy(logits, torch.tensor([[[0, 1]]]))
    half = 0.5 * math.log(2) / (1 + 1e-6)
    # the divisors are float32
    assert_close(background.item(), half, rtol=2e-7, atol=0)
    assert_close(both.item(), 2 * half, rtol=2e-7, atol=0)
