"""Parts of processes, whose mean is the loss of one process with all images."""

import copy
from unittest import mock

import pytest
import torch
from torch.testing import assert_close

from mmseg_more.models import losses as L

B, D, GRID = 4, 5, (4, 6)
LOSSES = dict(ptc=L.PatchAffinityLoss, seg=L.BalancedCrossEntropyLoss)


def labels_of(kind):
    """Of four images, two for each of two processes."""
    torch.manual_seed(1)
    labels = torch.randint(0, D, (B, *GRID))
    labels[torch.rand(B, *GRID) < 0.3] = 255
    if kind == 'one kind in the second':
        labels[2:] = 0
    elif kind == 'nothing in the second':
        labels[2:] = 255
    elif kind == 'nothing at all':
        labels[:] = 255
    return labels


def all_reduce_with(others):
    """Stands for MMEngine's, with what the other processes have."""

    def add(numbers):
        numbers += torch.stack([counts.numbers for counts in others.values()])

    return add


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize(
    'kind', ['unequal', 'one kind in the second', 'nothing in the second', 'nothing at all']
)
def test_mean_of_the_parts_is_the_whole(monkeypatch, name, kind):
    labels = labels_of(kind)
    outputs = torch.randn(B, D, *GRID, requires_grad=True)
    loss = LOSSES[name](loss_weight=0.3)
    whole = loss(outputs, labels)
    (expected,) = torch.autograd.grad(whole, outputs)

    module = 'mmseg_more.models.losses.batch_counts'
    monkeypatch.setattr(f'{module}.get_world_size', lambda: 2)
    halves = (slice(0, 2), slice(2, 4))
    parts = []
    for own, other in (halves, halves[::-1]):
        theirs = {name: loss.count(labels[other])}
        monkeypatch.setattr(f'{module}.all_reduce', all_reduce_with(theirs))
        counts = L.count_all_batches({name: loss.count(labels[own])})
        parts.append(loss(outputs[own], labels[own], counts[name]))
    mean = sum(parts) / 2
    (gradient,) = torch.autograd.grad(mean, outputs)
    assert_close(mean, whole, rtol=1e-6, atol=1e-7)
    assert_close(gradient, expected, rtol=1e-5, atol=1e-8)


def test_counts():
    labels = torch.tensor([[[0, 1, 1], [255, 2, 0]]])
    # of 5 patches that have a label, 20 pairs: 1 with 1 and 0 with 0, in both orders
    assert L.PatchAffinityLoss().count(labels).numbers.tolist() == [4, 16]
    assert L.BalancedCrossEntropyLoss().count(labels).numbers.tolist() == [2, 3]
    ignoring_2 = L.BalancedCrossEntropyLoss(ignore_index=2)
    assert ignoring_2.count(labels).numbers.tolist() == [2, 3]


def test_one_all_reduce_for_all_losses():
    counts = {name: loss().count(labels_of('unequal')) for name, loss in LOSSES.items()}
    with mock.patch('mmseg_more.models.losses.batch_counts.all_reduce') as reduce:
        found = L.count_all_batches(copy.deepcopy(counts))
        assert L.count_all_batches({}) == {}
    ((numbers,), _) = reduce.call_args
    assert reduce.call_count == 1 and numbers.shape == (2, 2)
    assert_close(found, counts)  # a process group of none
