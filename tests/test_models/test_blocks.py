"""Results computed block by block against those of the whole."""

import pytest
import torch
from torch.testing import assert_close

from mmseg_more.models.blocks import map_blocks, split_range


def tensors(dtype=torch.float32):
    """Weights and indices ``(2, 7, 3)`` of rows, and five rows that all blocks see."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 7, 3, generator=generator, dtype=dtype)
    index = torch.randint(0, 5, (2, 7, 3), generator=generator)
    rows = torch.randn(5, 4, generator=generator, dtype=dtype)
    return weights, index, rows


def gather(block, weights, index, rows):
    return torch.einsum('bkj,bkjd->bkd', weights.tanh(), rows.exp()[index])


def in_blocks(weights, index, rows, at_once=3, function=gather):
    return map_blocks(function, split_range(7, at_once), (weights, index), (rows,))


def test_split_range():
    assert split_range(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert split_range(6, 3) == [slice(0, 3), slice(3, 6)]
    assert split_range(2, 3) == [slice(0, 2)]


@pytest.mark.parametrize('at_once', [1, 3, 7, 9])
def test_values_and_gradients(at_once):
    weights, index, rows = tensors(torch.float64)
    leaves = (weights.requires_grad_(), rows.requires_grad_())
    expected = gather(None, weights, index, rows)
    found = in_blocks(weights, index, rows, at_once)
    assert_close(found, expected)
    assert_close(
        torch.autograd.grad(found.sin().sum(), leaves),
        torch.autograd.grad(expected.sin().sum(), leaves),
    )


@pytest.mark.parametrize('which', [0, 1])
def test_what_needs_no_gradient_gets_none(which):
    weights, index, rows = tensors()
    leaf = (weights, rows)[which].requires_grad_()
    found = in_blocks(weights, index, rows)
    found.sum().backward()
    expected = torch.autograd.grad(gather(None, weights, index, rows).sum(), leaf)
    assert_close(leaf.grad, *expected)
    assert (weights, rows)[1 - which].grad is None


def test_without_any_gradient():
    assert not in_blocks(*tensors()).requires_grad


def test_nothing_of_a_block_is_kept():
    weights, index, rows = tensors()
    kept = []

    def note(tensor):
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        in_blocks(weights.requires_grad_(), index, rows)
    assert kept == [tensor.data_ptr() for tensor in (weights, index, rows)]


@pytest.mark.parametrize('enabled', [False, True])
def test_the_gradient_computes_in_the_same_precision(enabled):
    """Whether or not autocast is on when it is asked for."""
    weights, index, rows = tensors()
    seen = []

    def product(block, weights, index, rows):
        value = weights @ rows[:3]
        seen.append(value.dtype)
        return value

    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
        found = in_blocks(weights.requires_grad_(), index, rows, function=product)
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=not enabled):
        found.sum().backward()
    assert found.dtype == (torch.bfloat16 if enabled else torch.float32)
    assert set(seen) == {found.dtype} and len(seen) == 2 * 3


def test_gradients_of_gradients_are_refused():
    weights, index, rows = tensors()
    found = in_blocks(weights.requires_grad_(), index, rows)
    (gradient,) = torch.autograd.grad(found.sin().sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()
