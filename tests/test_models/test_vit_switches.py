"""Activation checkpointing and compilation of the backbone."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmseg_more.models import MoReViT
from mmseg_more.models.backbones import more_vit

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)


def vit(**kwargs):
    model = MoReViT(
        **{
            **dict(arch=ARCH, img_size=32, patch_size=8, num_classes=3, num_registers=2),
            **kwargs,
        }
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def gradients(model, size=32, images=2):
    """Tokens and gradients of a training pass."""
    torch.manual_seed(0)
    tokens = model(torch.randn(images, 3, size, size))
    model.zero_grad()
    sum(t.square().sum() for t in tokens[:3]).backward()
    return [*tokens[:3], *(p.grad.clone() for p in model.parameters())]


def saved_numbers(model):
    """How many numbers a training pass keeps for its backward pass."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.zeros(8, 3, 64, 64))
    return sum(sizes.values())


@pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
def test_checkpointing_keeps_the_gradients(drop_path_rate):
    """Also with stochastic depth, whose draws are repeated."""
    rates = dict(drop_path_rate=drop_path_rate)
    assert_close(
        gradients(vit(with_cp=True, **rates)), gradients(vit(**rates)), rtol=0, atol=0
    )


def test_checkpointing_keeps_less():
    assert saved_numbers(vit(with_cp=True)) < 0.4 * saved_numbers(vit())


def test_checkpointing_with_autocast():
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = gradients(vit(with_cp=True)), gradients(vit())
    assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize('training, grad', [(True, False), (False, True)])
def test_checkpointing_is_for_training_passes(monkeypatch, training, grad):
    monkeypatch.setattr(more_vit, 'checkpoint', None)  # would fail if called
    model = vit(with_cp=True).train(training)
    with torch.set_grad_enabled(grad):
        model(torch.zeros(1, 3, 32, 32))


class CountingBackend:
    """Runs what it is given as it is, and counts it."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, example_inputs):
        self.graphs.append(graph)
        return graph.forward


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiled_once_for_all_blocks_and_sizes(fresh_dynamo):
    backend = CountingBackend()
    plain, compiled = vit(), vit(compile=dict(backend=backend))
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert not backend.graphs  # not before the first call
    for size, images in ((32, 2), (16, 4), (24, 2), (48, 3)):
        assert_close(gradients(compiled, size, images), gradients(plain, size, images))
    assert len(backend.graphs) == 1
    with torch.no_grad():
        for size in (32, 16, 24, 48):
            images = torch.randn(4, 3, size, size)
            assert_close(compiled(images, True), plain(images, True))
    assert len(backend.graphs) == 2
    with torch.no_grad():
        assert_close(compiled.eval()(images), plain.eval()(images))
    assert len(backend.graphs) == 3


def test_compiled_gradients(fresh_dynamo):
    """With checkpointing, by a backend that traces the backward pass too."""
    compiled = vit(compile=dict(backend='aot_eager'), with_cp=True)
    assert_close(
        gradients(compiled), gradients(vit()), rtol=1e-4, atol=1e-5
    )  # sums in another order


def test_compile_takes_the_arguments_of_torch_compile(monkeypatch):
    seen = []
    monkeypatch.setattr(
        nn.Module, 'compile', lambda self, **kwargs: seen.append(kwargs), raising=False
    )
    vit(compile=True)
    vit(compile=dict(mode='max-autotune', dynamic=None))
    vit(compile=False)
    assert seen == 4 * [dict(dynamic=True)] + 4 * [dict(mode='max-autotune', dynamic=None)]


def test_compile_with_an_old_pytorch(monkeypatch):
    monkeypatch.delattr(nn.Module, 'compile', raising=False)
    with pytest.raises(ValueError, match='backbone.compile needs PyTorch 2.2'):
        vit(compile=True)
