"""A step of two processes, each with half of a batch, beside one with all of it.

docs/questions.md, "How do I train on several GPUs?", has the figures.
"""

import pytest
import torch
import torch.multiprocessing as mp
from torch.testing import assert_close

import ranks_run
from ranks_run import BATCHES
from tiny_model import batch, tiny_config, tiny_model

from mmseg.registry import MODELS

PER_IMAGE = ('cls', 'cls_aux', 'mct', 'cre', 'energy')
COUNTED = ('ptc', 'seg')

pytestmark = pytest.mark.usefixtures('one_thread')
kinds = pytest.mark.parametrize('kind', BATCHES)


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    """What two processes found together."""
    folder = tmp_path_factory.mktemp('ranks')
    mp.spawn(ranks_run.run_rank, (2, str(folder)), nprocs=2, join=True)
    first, second = (torch.load(folder / f'{rank}.pt') for rank in range(2))
    assert_close(first, second, rtol=0, atol=0)
    return first


def assert_same(found, expected):
    """To the rounding of float32."""
    (value, gradient), (expected_value, expected_gradient) = found, expected
    assert_close(value, expected_value, rtol=1e-6, atol=0)
    scale = expected_gradient.abs().max().item()
    assert_close(gradient, expected_gradient, rtol=0, atol=1e-6 * scale)


def difference_of_gradients(found, expected):
    return ((found[1] - expected[1]).norm() / expected[1].norm()).item()


@pytest.mark.slow
@kinds
@pytest.mark.parametrize('how', ['apart', 'together'])
def test_means_over_images_are_the_same(shared, kind, how):
    alone = ranks_run.each_loss(BATCHES[kind], sync_counts=False)
    for name in PER_IMAGE:
        assert_same(shared[kind][how][f'loss_{name}'], alone[f'loss_{name}'])


@pytest.mark.slow
@kinds
def test_means_over_pairs_and_pixels_are_so_with_the_counts_of_all(shared, kind):
    alone = ranks_run.each_loss(BATCHES[kind], sync_counts=False)
    for name in COUNTED:
        expected = alone[f'loss_{name}']
        assert_same(shared[kind]['together'][f'loss_{name}'], expected)
        apart = difference_of_gradients(shared[kind]['apart'][f'loss_{name}'], expected)
        assert apart > 0.05, name


@pytest.mark.slow
def test_other_tokens_are_drawn_for_ure(shared):
    """And the mean is over those of a process, whatever their number."""
    alone = ranks_run.each_loss(BATCHES['unequal'], sync_counts=False)['loss_ure']
    for how in ('apart', 'together'):
        found = shared['unequal'][how]['loss_ure']
        assert difference_of_gradients(found, alone) > 0.1
        assert_close(found[0], alone[0], rtol=0.1, atol=0)  # another sample of the same


@pytest.mark.slow
@kinds
def test_accumulated_update(shared, kind):
    """By DistributedDataParallel, which waits with its mean for the second step."""
    expected = ranks_run.weights_after_an_update(BATCHES[kind])
    assert_close(shared[kind]['update'], expected, rtol=1e-6, atol=1e-6)


def test_one_process_has_its_own_counts():
    inputs, samples = batch(*BATCHES['unequal'])
    losses = []
    for sync_counts in (False, True):
        torch.manual_seed(0)
        net = tiny_model(ranks_run.ITERATION, sync_counts=sync_counts)
        losses.append(net.loss(inputs, samples))
    assert_close(losses[0], losses[1], rtol=0, atol=0)


def test_loss_that_counts_nothing():
    losses = tiny_config().losses
    losses.ptc = dict(type='TokenDiscriminationLoss')
    MODELS.build(tiny_config(losses=losses))
    with pytest.raises(ValueError, match=r'losses\.ptc is a TokenDiscriminationLoss'):
        MODELS.build(tiny_config(losses=losses, sync_counts=True))
    losses.ptc.loss_weight = 0
    MODELS.build(tiny_config(losses=losses, sync_counts=True))
