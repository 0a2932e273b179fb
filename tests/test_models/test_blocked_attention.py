"""Attention in blocks against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmseg_more.models.backbones import blocked_attention
from mmseg_more.models.backbones.blocked_attention import attend

# bfloat16 has eight bits: of the logits and the weights, each rounded once
CLOSE = dict(rtol=0.02, atol=0.02)


def heads(shape, dtype=torch.bfloat16):
    """Query, key and value, laid out as the projection of a block gives them."""
    generator = torch.Generator().manual_seed(0)
    batch_size, count, num_tokens, dims = shape
    return [
        torch.randn(batch_size, num_tokens, count, dims, generator=generator)
        .to(dtype)
        .transpose(1, 2)
        for _ in range(3)
    ]


def exact(query, key, value):
    return F.scaled_dot_product_attention(query.double(), key.double(), value.double())


@pytest.fixture
def calls(monkeypatch):
    """Of PyTorch's function."""
    seen = []
    original = F.scaled_dot_product_attention

    def count(*args):
        seen.append(args)
        return original(*args)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', count)
    return seen


# all at once; some matrices; some rows of two matrices; one row
@pytest.mark.parametrize('block', [2**21, 4 * 37**2, 2 * 37 * 10, 1])
@pytest.mark.parametrize('dims', [64, 20])
def test_blocks(monkeypatch, calls, block, dims):
    monkeypatch.setattr(blocked_attention, '_BLOCK', block)
    parts = heads((3, 5, 37, dims))
    expected = exact(*parts)
    calls.clear()
    for autocast in (False, True):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
            found = attend(*parts)
        assert not calls
        assert found.dtype == torch.bfloat16
        assert_close(found.double(), expected, **CLOSE)


def test_one_token():
    query, key, value = heads((1, 2, 1, 8))
    assert_close(attend(query, key, value), value)


def test_large_logits():
    """The softmax of logits beyond the range of its exponential."""
    query, key, value = heads((1, 2, 9, 16))
    found = attend(query * 200, key * 200, value)
    best = (query.float() @ key.float().transpose(-2, -1)).argmax(-1)
    assert_close(found, value.gather(2, best[..., None].expand(-1, -1, -1, 16)))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_other_types_are_pytorchs(calls, dtype):
    attend(*heads((1, 2, 9, 8), dtype))
    assert len(calls) == 1


def test_gradients_are_pytorchs(calls):
    query, key, value = (part.requires_grad_() for part in heads((1, 2, 9, 8)))
    found = torch.autograd.grad(attend(query, key, value).sum(), (query, key, value))
    assert len(calls) == 1
    expected = torch.autograd.grad(exact(query, key, value).sum(), (query, key, value))
    assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize('only', range(3))
def test_a_gradient_of_one_is_asked_for(only):
    parts = heads((1, 2, 9, 8))
    parts[only].requires_grad_()
    assert attend(*parts).requires_grad


def test_parameters_without_a_gradient_mode(calls):
    with torch.no_grad():
        attend(*(part.requires_grad_() for part in heads((1, 2, 9, 8))))
    assert not calls


def test_a_trace_takes_other_sizes(calls):
    """The sizes of blocks are no part of it."""
    traced = torch.jit.trace(attend, heads((1, 2, 9, 8)), check_trace=False)
    assert calls
    parts = heads((3, 2, 21, 8))
    assert_close(traced(*parts).double(), exact(*parts), **CLOSE)
