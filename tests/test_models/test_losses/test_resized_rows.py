"""Losses that resize logits a few rows at a time, against those of the whole."""

import pytest
import torch
from torch.testing import assert_close

from mmseg_more.localization import resize_map
from mmseg_more.models.losses import BalancedCrossEntropyLoss, DenseEnergyLoss, resized_rows


def batch(num_classes, grid, size):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, num_classes + 1, *grid, generator=generator)
    labels = torch.randint(0, min(num_classes + 1, 4), (2, *size), generator=generator)
    labels[:, : size[0] // 4] = 255
    images = 255 * torch.rand(2, 3, *size, generator=generator)
    return logits.requires_grad_(), labels, images


def loss_and_gradient(loss, logits, *others, resize=None):
    seen = logits if resize is None else resize_map(logits, resize)
    value = loss(seen, *others)
    return value.detach(), torch.autograd.grad(value, logits)[0]


def check(loss, logits, *others, size):
    found = loss_and_gradient(loss, logits, *others)
    expected = loss_and_gradient(loss, logits, *others, resize=size)
    assert_close(found[0], expected[0], rtol=1e-5, atol=0)
    # sums over the pixels of a patch: relative to the largest
    largest = expected[1].abs().max().item()
    assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5 * largest)


@pytest.fixture(params=['three rows', 'at once'])
def rows_at_once(request, monkeypatch):
    """How many rows of the next test's logits are made at a time."""

    def limit(num_classes, size):
        row = 4 * 2 * (num_classes + 1) * size[1]
        rows = 3 if request.param == 'three rows' else size[0]
        monkeypatch.setitem(resized_rows._BLOCK_BYTES, 'cpu', rows * row)

    return limit


@pytest.mark.parametrize('num_classes', [1, 5, 300])
@pytest.mark.parametrize('size', [(32, 40), (31, 37)])
def test_segmentation(rows_at_once, num_classes, size):
    logits, labels, _ = batch(num_classes, (4, 5), size)
    rows_at_once(num_classes, size)
    check(BalancedCrossEntropyLoss(), logits, labels, size=size)


@pytest.mark.parametrize('num_classes', [1, 5, 300])
@pytest.mark.parametrize(
    'size, factor', [((32, 40), 0.5), ((31, 37), 0.5), ((32, 40), 1.0)]
)
@pytest.mark.parametrize('backend', ['lattice', 'pydensecrf'])
def test_energy(rows_at_once, num_classes, size, factor, backend):
    logits, labels, images = batch(num_classes, (4, 5), size)
    rows_at_once(num_classes, size)
    loss = DenseEnergyLoss(scale_factor=factor, backend=backend)
    check(loss, logits, labels, images, size=size)


@pytest.mark.parametrize('factor', [0.4, 1.5])
def test_energy_whose_rows_cannot_take_turns(rows_at_once, factor):
    logits, labels, images = batch(5, (4, 5), (32, 40))
    rows_at_once(5, (32, 40))
    loss = DenseEnergyLoss(scale_factor=factor)
    check(loss, logits, labels, images, size=(32, 40))


def test_what_is_kept_for_the_gradient(monkeypatch):
    """Not the logits of all pixels."""
    size, kept = (64, 64), []
    logits, labels, images = batch(300, (4, 4), size)
    monkeypatch.setitem(resized_rows._BLOCK_BYTES, 'cpu', 2**20)

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    for loss, others, largest in (
        (BalancedCrossEntropyLoss(), (labels,), logits.numel()),
        (DenseEnergyLoss(), (labels, images), 2 * 301 * 32 * 32),  # at half size
    ):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss(logits, *others)
        assert kept and max(kept) <= largest


def test_rows_come_in_multiples(monkeypatch):
    seen = []

    def function(logits, rows):
        seen.append((rows.start, rows.stop))
        return logits[:, : (logits.shape[1] // 2) * 2 : 2]  # half as many

    logits = torch.randn(1, 2, 3, 4, requires_grad=True)
    monkeypatch.setitem(resized_rows._BLOCK_BYTES, 'cpu', 5 * 4 * 2 * 10)
    found = resized_rows.map_rows(function, logits, (11, 10), multiple=2)
    assert seen == [(0, 4), (4, 8), (8, 11)]
    assert_close(found.permute(0, 3, 1, 2), resize_map(logits, (11, 10))[:, :, :10:2])
    seen.clear()
    monkeypatch.setitem(resized_rows._BLOCK_BYTES, 'cpu', 1)
    resized_rows.map_rows(function, logits, (3, 10), multiple=2)
    assert seen == [(0, 3)]
    seen.clear()
    resized_rows.map_rows(function, logits, (7, 10), multiple=2)
    assert seen == [(0, 2), (2, 4), (4, 7)]
