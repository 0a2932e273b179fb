"""What a GPU computes is what a CPU computes. Run where PyTorch sees a GPU:

CUDA_VISIBLE_DEVICES=0 python -m pytest tests/test_cuda.py
"""

import copy

import pytest
import torch
from torch.testing import assert_close

from mmseg_more import localization as L
from mmseg_more.localization.weighted_sums import weighted_sums
from mmseg_more.models.structures import LocalizationRequest
from tiny_model import batch, tiny_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

LABELS = ([1, 0, 1], [0, 1, 0], [1, 1, 1])


@pytest.fixture(autouse=True)
def no_tf32():
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def _step(model, device):
    """Losses and gradients of one step."""
    images, samples = batch(*LABELS)
    model = model.to(device)
    torch.manual_seed(1)
    losses = model.loss(images.to(device), samples)
    sum(losses.values()).backward()
    gradients = {name: p.grad.cpu() for name, p in model.named_parameters()}
    return {name: loss.detach().cpu() for name, loss in losses.items()}, gradients


@pytest.mark.parametrize('iteration', [0, 2500, 12000])
def test_training_step(iteration):
    model = tiny_model(iteration)
    expected = _step(copy.deepcopy(model), 'cpu')
    actual = _step(model, 'cuda')
    assert expected[0].keys() == actual[0].keys()
    for name, loss in expected[0].items():
        assert_close(actual[0][name], loss, rtol=1e-4, atol=1e-7, msg=name)
    for name, gradient in expected[1].items():
        largest = gradient.abs().max().item()
        assert_close(actual[1][name], gradient, rtol=1e-3, atol=1e-3 * largest, msg=name)


@torch.no_grad()
def test_predictions():
    request = LocalizationRequest(maps=('cam', 'lam', 'attention', 'fused'))
    images, samples = batch(*LABELS)
    predictions = []
    for device in ('cpu', 'cuda'):
        model = tiny_model().eval().to(device)
        model.localization_request = request
        predictions.append(model.predict(images.to(device), copy.deepcopy(samples)))
    for expected, actual in zip(*predictions):
        for name in ('cam', 'lam', 'attention', 'fused', 'seg_logits'):
            found = actual.get(name).data.cpu()
            assert_close(found, expected.get(name).data, rtol=1e-4, atol=1e-4, msg=name)


@torch.no_grad()
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_captured_passes(dtype):
    """Replayed graphs give what the passes give, also of weights that have changed."""
    images = batch(*LABELS)[0].cuda()
    plain = tiny_model().cuda()
    captured = tiny_model(localization=dict(scales=(1.0, 0.5), cuda_graphs=True)).cuda()
    for _ in range(3):
        with torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
            expected = plain.localizer.training_cams(images)
            actual = captured.localizer.training_cams(images)
        assert_close(actual.cam, expected.cam, rtol=1e-4, atol=1e-4)
        assert_close(actual.cam_aux, expected.cam_aux, rtol=1e-4, atol=1e-4)
        for model in (plain, captured):
            for weight in model.backbone.parameters():
                weight.mul_(1.1)
    assert len(captured.localizer._graphs._graphs) == 2  # one for each scale


@torch.no_grad()
def test_other_weights_are_captured_anew():
    model = tiny_model(localization=dict(scales=(1.0,), cuda_graphs=True)).cuda()
    images = batch(*LABELS)[0].cuda()
    before = model.localizer.training_cams(images).cam
    other = copy.deepcopy(model)
    assert_close(other.localizer.training_cams(images).cam, before)
    for weight in other.backbone.parameters():
        weight.data = torch.randn_like(weight)
    changed = other.localizer.training_cams(images).cam
    other.localizer._graphs = None
    assert_close(changed, other.localizer.training_cams(images).cam)
    assert not torch.allclose(changed, before)


@pytest.mark.parametrize('channels', [1, 3, 8, 21, 40])
def test_weighted_sums(channels):
    table = torch.randn(1000, channels)
    rows = torch.randint(0, 1000, (5000, 6), dtype=torch.int32)
    weights = torch.rand(5000, 6)
    lengths = torch.randint(0, 12, (3000,))
    starts = (lengths.cumsum(0) - lengths).int()
    count = int(lengths.sum())
    varying = rows.flatten()[:count].contiguous(), weights.flatten()[:count].contiguous()
    for arguments in ((rows, weights), (*varying, starts)):
        expected = weighted_sums(table, *arguments)
        actual = weighted_sums(table.cuda(), *(a.cuda() for a in arguments))
        assert_close(actual.cpu(), expected, rtol=1e-5, atol=1e-5)
        again = weighted_sums(table.cuda(), *(a.cuda() for a in arguments))
        assert torch.equal(actual, again)


def test_refinement():
    images, masks = torch.rand(3, 3, 40, 56), torch.rand(3, 4, 10, 14)
    expected = L.pixel_adaptive_refinement(images, masks)
    actual = L.pixel_adaptive_refinement(images.cuda(), masks.cuda())
    assert_close(actual.cpu(), expected, rtol=1e-4, atol=1e-4)


def test_gradient_of_a_resize():
    gradients = []
    for device in ('cpu', 'cuda'):
        maps = torch.linspace(0, 1, 2 * 3 * 28 * 20, device=device).view(2, 3, 28, 20)
        maps.requires_grad_()
        L.resize_map(maps, (448, 300)).square().sum().backward()
        gradients.append(maps.grad.cpu())
    assert_close(*gradients, rtol=1e-4, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize('interpolate', ['offset', 'size'])
@pytest.mark.parametrize('grid', [(12, 17), (8, 8)])
def test_resized_positions(interpolate, grid):
    backbone = tiny_model().backbone
    backbone.interpolate = interpolate
    torch.nn.init.normal_(backbone.pos_embed)
    size = (8 * grid[0], 8 * grid[1] + 1)
    expected = backbone._positions(grid, size)
    found = backbone.cuda()._positions(grid, size).cpu()
    assert_close(found, expected, rtol=0, atol=1e-5)
