"""Training steps in half precision beside those in float32."""

from contextlib import contextmanager

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.utils import digit_version
from torch.testing import assert_close

from mmseg_more.engine.optim import CPUAmpOptimWrapper
from tiny_model import batch, tiny_model

# older releases have no float16 autocast and no gradient scaler for the CPU
TYPES = (
    [torch.bfloat16, torch.float16]
    if digit_version(torch.__version__) >= digit_version('2.4')
    else [torch.bfloat16]
)
LABELS = [1, 0, 1], [0, 1, 0]
ITERATION = 5000  # all losses count


@pytest.mark.parametrize('dtype', TYPES)
def test_every_loss_gets_float32(dtype):
    model = tiny_model(ITERATION)
    seen = {}
    for name, loss in model.loss_schedule.losses.items():
        loss.register_forward_hook(
            lambda module, args, out, name=name: seen.update({name: (*args, out)})
        )
    halves = []
    for part in (model.backbone.layers[0].attn, model.decode_head.conv_seg):
        part.register_forward_hook(lambda module, args, out: halves.append(out.dtype))
    with torch.autocast('cpu', dtype=dtype):
        model.loss(*batch(*LABELS))
    assert set(halves) == {dtype}  # the network itself runs in half precision
    assert set(seen) == set(model.loss_schedule.losses)
    for name, values in seen.items():
        found = {value.dtype for value in values if value.is_floating_point()}
        assert found == {torch.float32}, name


class ScaledFloat16(OptimWrapper):
    """What MMEngine's AmpOptimWrapper does on a GPU, on the CPU."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.scaler = torch.amp.GradScaler('cpu')

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.float16):
            yield

    def backward(self, loss):
        self.scaler.scale(loss).backward()
        self._inner_count += 1

    def step(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()


def run(dtype, steps=10):
    """Losses of each step of a training in ``dtype``."""
    model = tiny_model(ITERATION)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if dtype is torch.float16:
        wrapper = ScaledFloat16(optimizer)
    else:
        wrapper = CPUAmpOptimWrapper(str(dtype)[6:], optimizer=optimizer)
    inputs, samples = batch(*LABELS)
    history = []
    for _ in range(steps + 4):  # the scaler skips a step if its scale is too large
        taken = int(optimizer.state.get(model.classifier.weight, {}).get('step', 0))
        torch.manual_seed(taken)
        with wrapper.optim_context(model):
            losses = model.loss(inputs, samples)
        wrapper.update_params(sum(losses.values()))
        history[taken:] = [{name: value.detach() for name, value in losses.items()}]
    assert all(torch.isfinite(p).all() for p in model.parameters())
    return history[:steps]


@pytest.mark.slow
@pytest.mark.parametrize('dtype', TYPES)
def test_ten_steps(dtype):
    exact, found = run(torch.float32), run(dtype)
    assert len(exact) == len(found) == 10
    for expected, losses in zip(exact, found):
        # bfloat16 has 3 digits, and a patch at a threshold may change its label
        assert_close(losses, expected, rtol=0.03, atol=0.02)
    assert exact[-1]['loss_cls'] < 0.9 * exact[0]['loss_cls']  # it has learnt meanwhile


@pytest.mark.parametrize('dtype', TYPES)
def test_gradients(dtype):
    """Those of float32, up to the precision; float16 by way of a loss scale."""
    inputs, samples = batch(*LABELS)
    found = []
    for enabled in (False, True):
        model = tiny_model(ITERATION)
        torch.manual_seed(0)
        with torch.autocast('cpu', dtype=dtype, enabled=enabled):
            losses = model.loss(inputs, samples)
        scale = 2.0**10 if dtype is torch.float16 and enabled else 1.0
        (sum(losses.values()) * scale).backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]) / scale)
    exact, half = found
    assert torch.isfinite(half).all()
    assert (half - exact).norm() < 16 * torch.finfo(dtype).eps * exact.norm()
