import pytest
import torch
from torch.testing import assert_close

from golden import DEVICE, Golden
from mmseg_more.models import GraphCategoryRepresentation
from mmseg_more.models.graph import category_graph

OPS = Golden('ops')


def _graph(**kwargs):
    graph = GraphCategoryRepresentation(embed_dims=32, **kwargs)
    state = {k: v for k, v in OPS.group('gcr.sd.').items() if not k.startswith('_fc1')}
    graph.load_state_dict(state, strict=True)
    return graph.to(DEVICE)


def test_matches_the_reference():
    graph = _graph()
    tokens = OPS['gcr.tok'].requires_grad_()
    patches = OPS['gcr.feats'].requires_grad_()
    out = graph(tokens, patches)
    close = dict(rtol=1e-5, atol=1e-5)
    assert_close(out, OPS['gcr.out'], **close)
    (out * OPS['gcr.wgt']).sum().backward()
    assert_close(tokens.grad, OPS['gcr.grad_tok'], **close)
    for name, expected in OPS.group('gcr.grad.').items():
        # sums over the batch: relative to the largest entry
        assert_close(
            graph.get_parameter(name).grad,
            expected,
            rtol=1e-5,
            atol=1e-5 * max(1.0, expected.abs().max().item()),
        )
    assert patches.grad is None  # detached


def _by_hand(graph, tokens, nodes, count, weighting):
    """One image, class by class, in the paper's symbols."""
    heads, tails = graph.head_proj(tokens), graph.tail_proj(nodes)
    messages = []
    for h in heads:
        scores = tails @ h * 32**-0.5
        best = scores.topk(count)
        r = best.values.softmax(0)[:, None]
        t = tails[best.indices]
        gate = torch.tanh(h + r * t + (1 - r) * h)
        w = (t * gate).sum(1) if weighting == 'dot' else t.sum(1) * gate.sum(1)
        messages.append((w.softmax(0)[:, None] * t).sum(0))
    a = torch.stack(messages)
    lrelu = torch.nn.functional.leaky_relu
    return graph.norm(
        lrelu(graph.linear1(0.1 * (heads + a) + tokens))
        + lrelu(graph.linear2(0.1 * heads * a + tokens))
    )


@pytest.mark.parametrize(
    'kwargs, count',
    [
        (dict(), 10),
        (dict(weighting='dot'), 10),
        (dict(tail='patches'), 10),
        (dict(num_neighbors=5, tail='patches', weighting='dot'), 5),
        (dict(num_neighbors=392, tail='patches'), 24),
        (dict(neighbor_ratio=0.01), 0),
    ],
)
def test_options(kwargs, count):
    graph = _graph(**kwargs)
    tokens, patches = OPS['gcr.tok'], OPS['gcr.feats']
    out = graph(tokens, patches)
    for i in range(2):
        nodes = (
            patches[i]
            if kwargs.get('tail') == 'patches'
            else torch.cat([tokens[i], patches[i]])
        )
        expected = _by_hand(
            graph, tokens[i], nodes, count, kwargs.get('weighting', 'sum_product')
        )
        assert_close(out[i], expected, rtol=1e-4, atol=1e-5)


def _forward_and_backward(graph, tokens, patches):
    graph.zero_grad()
    tokens = tokens.clone().requires_grad_()
    out = graph(tokens, patches)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return out.detach(), tokens.grad, {n: p.grad for n, p in graph.named_parameters()}


@pytest.mark.parametrize(
    'kwargs', [dict(), dict(weighting='dot'), dict(num_neighbors=7, tail='patches')]
)
@pytest.mark.parametrize('num_classes', [7, 300])
def test_classes_in_turns(monkeypatch, num_classes, kwargs):
    """Forward the same bits; the gradients are sums in another order."""
    torch.manual_seed(0)
    graph = GraphCategoryRepresentation(embed_dims=8, **kwargs)
    tokens, patches = torch.randn(2, num_classes, 8), torch.randn(2, 20, 8)
    at_once = _forward_and_backward(graph, tokens, patches)
    count = kwargs.get('num_neighbors', num_classes // 2)
    three_classes = 3 * 4 * 2 * count * 8
    monkeypatch.setitem(category_graph._BLOCK_BYTES, 'cpu', three_classes)
    in_turns = _forward_and_backward(graph, tokens, patches)
    assert torch.equal(in_turns[0], at_once[0])
    assert_close(in_turns[1:], at_once[1:], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(graph(tokens, patches), at_once[0])


def test_neighbours_are_not_kept(monkeypatch):
    """What is kept for the gradient has none of the K k D numbers, in turns."""
    graph, kept = GraphCategoryRepresentation(embed_dims=16), []
    tokens, patches = torch.randn(1, 100, 16, requires_grad=True), torch.randn(1, 9, 16)

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    for limit in (2**24, 4 * 50 * 16):
        kept.clear()
        monkeypatch.setitem(category_graph._BLOCK_BYTES, 'cpu', limit)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            graph(tokens, patches)
        assert (max(kept) >= 100 * 50 * 16) == (limit == 2**24)


@pytest.mark.parametrize('weighting', ['sum_product', 'dot'])
def test_a_single_class_has_no_neighbours(weighting):
    """What only neighbours reach has a zero gradient, not a missing one."""
    torch.manual_seed(0)
    graph = GraphCategoryRepresentation(embed_dims=8, weighting=weighting)
    tokens, patches = torch.randn(2, 1, 8), torch.randn(2, 20, 8)
    out, _, gradients = _forward_and_backward(graph, tokens, patches)
    lrelu = torch.nn.functional.leaky_relu
    added = lrelu(graph.linear1(0.1 * graph.head_proj(tokens) + tokens))
    assert_close(out, graph.norm(added + lrelu(graph.linear2(tokens))))
    for name, gradient in gradients.items():
        assert bool(gradient.any()) == (not name.startswith('tail_proj')), name
    one = GraphCategoryRepresentation(embed_dims=8, weighting=weighting, num_neighbors=1)
    one.load_state_dict(graph.state_dict())
    assert not torch.allclose(one(tokens, patches), out, atol=0.01)


def test_inputs_are_not_edited():
    tokens, patches = OPS['gcr.tok'], OPS['gcr.feats']
    copies = tokens.clone(), patches.clone()
    _graph()(tokens, patches)
    assert torch.equal(tokens, copies[0]) and torch.equal(patches, copies[1])


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(tail='classes'),
        dict(weighting='cosine'),
        dict(num_neighbors=0),
        dict(neighbor_ratio=0),
    ],
)
def test_unknown_options(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        GraphCategoryRepresentation(embed_dims=8, **kwargs)
