"""The energy on the bilateral filter, by either backend."""

import importlib
import sys

import pytest
import torch
from torch.testing import assert_close

from mmseg_more import localization as L

SCALE = 1e-7


def _inputs(batch_size=2, channels=21, size=(18, 15), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(shape, generator=generator)

    probs = (rand(batch_size, channels, *size) * 5).softmax(dim=1).to(dtype)
    return (
        probs.requires_grad_(),
        rand(batch_size, 3, *size) * 255,
        rand(batch_size, 1, *size),
    )


def _energy(probs, images, gate, backend):
    return L.bilateral_energy(probs, images, gate, 15.0, 9.0, SCALE, backend)


@pytest.mark.parametrize('backend', ['auto', 'lattice', 'pydensecrf'])
def test_value_and_gradient_are_the_definitions(backend):
    """docs/method.md, section 6, word for word."""
    probs, images, gate = _inputs()
    energy = _energy(probs, images, gate, backend)
    (3 * energy).backward()
    filtered = torch.stack(
        [
            torch.from_numpy(
                L.bilateral_filter(
                    image.permute(1, 2, 0).numpy(), value.detach().numpy(), 15.0, 9.0
                )
            )
            for image, value in zip(images, probs)
        ]
    )
    assert_close(
        energy.double(),
        -SCALE * (probs * gate * filtered).double().sum() / 2,
        rtol=1e-5,
        atol=0,
    )
    assert_close(probs.grad, 3 * -2 * SCALE * gate * filtered / 2, rtol=1e-5, atol=0)


def test_backends_agree_on_300_classes():
    results = []
    for backend in ('lattice', 'pydensecrf'):
        probs, images, gate = _inputs(1, 301)
        energy = _energy(probs, images, gate, backend)
        energy.backward()
        results.append((energy.detach(), probs.grad))
    assert_close(results[0], results[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize('backend', ['lattice', 'pydensecrf'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(backend, dtype):
    """Sums in float32; the gradient comes back in the type of the input."""
    probs, images, gate = _inputs(dtype=dtype)
    exact = probs.detach().float().requires_grad_()
    energy = _energy(probs, images, gate, backend)
    expected = _energy(exact, images, gate, backend)
    assert energy.dtype == torch.float32
    assert torch.equal(energy, expected)
    energy.backward()
    expected.backward()
    assert torch.equal(probs.grad, exact.grad.to(dtype))


def test_closed_gate():
    probs, images, gate = _inputs()
    energy = _energy(probs, images, torch.zeros_like(gate), 'lattice')
    energy.backward()
    assert energy == 0 and (probs.grad == 0).all()


def test_only_the_probabilities_get_a_gradient():
    probs, images, gate = _inputs()
    images.requires_grad_()
    gate.requires_grad_()
    _energy(probs, images, gate, 'lattice').backward()
    assert probs.grad is not None
    assert images.grad is None and gate.grad is None


@pytest.mark.parametrize(
    'device, side, expected',
    [('cpu', 64, 'pydensecrf'), ('cpu', 65, 'lattice'), ('meta', 64, 'lattice')],
)
def test_automatic_choice(monkeypatch, device, side, expected):
    """Two images of 64 x 64 are the most that pydensecrf gets, where it is installed."""
    module = importlib.import_module('mmseg_more.localization.bilateral')
    monkeypatch.setattr(module, 'find_spec', lambda name: name)
    values = torch.empty(2, 7, side, 64, device=device)
    assert L.choose_backend('auto', values) == expected
    for backend in ('lattice', 'pydensecrf'):
        assert L.choose_backend(backend, values) == backend


def test_without_pydensecrf(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf', None)
    probs, images, gate = _inputs()
    assert L.choose_backend('auto', probs) == 'lattice'
    assert torch.isfinite(_energy(probs, images, gate, 'auto'))
    with pytest.raises(ImportError, match='pip install pydensecrf2'):
        _energy(probs, images, gate, 'pydensecrf')


def test_unknown_backend():
    with pytest.raises(ValueError, match="must be one of .*got 'cuda'"):
        _energy(*_inputs(), backend='cuda')
