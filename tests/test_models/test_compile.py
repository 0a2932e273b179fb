"""MMEngine's `compile=True`: the whole training step under torch.compile."""

import sys

import pytest
import torch
from mmengine.optim import OptimWrapper

from tiny_model import batch, tiny_config, tiny_model


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < '2.4' and sys.version_info >= (3, 12),
    reason='this PyTorch does not compile on this Python',
)
def test_nothing_is_compiled_again_but_when_the_losses_change():
    """Not at each iteration, for its number."""
    from torch._dynamo.utils import counters

    losses = {k: dict(tiny_config().losses[k]) for k in ('cls', 'ptc')}
    losses['ptc']['begin'] = 2
    model = tiny_model(losses=losses, localization=dict(scales=(1.0,)))
    model.data_preprocessor.size = (64, 64)
    inputs, samples = batch([1, 0, 1], [0, 1, 0])
    data = dict(inputs=list(model.denormalize(inputs).byte()), data_samples=samples)
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    optim_wrapper.initialize_count_status(model, 0, 100)  # as the runner does
    torch._dynamo.reset()
    step = torch.compile(model.train_step, backend='eager')

    def frames_of_a_step():
        before = counters['frames']['total']
        log = step(data, optim_wrapper)
        return counters['frames']['total'] - before, 'loss_ptc' in log, model.iteration

    found = [frames_of_a_step() for _ in range(7)]
    torch._dynamo.reset()
    frames, with_ptc, iterations = zip(*found)
    assert iterations == tuple(range(7))
    assert with_ptc == (False, False, False, True, True, True, True)
    assert frames[0] > 0 and frames[3] > 0
    assert frames[1:3] == (0, 0) and frames[4:] == (0, 0, 0)
