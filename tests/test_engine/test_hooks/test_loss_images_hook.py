"""Images reach the losses of a stock segmentor."""

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from torch.testing import assert_close

import stock_model
from iteration_run import train
from mmseg_more.engine.hooks import LossImagesHook
from mmseg_more.models.losses import DenseEnergyLoss
from tiny_model import tiny_model

ENERGY = dict(loss_decode=dict(type='DenseEnergyLoss'))
HOOK = dict(type='LossImagesHook')


def images_of(model):
    """A list of the images of each call of the energy loss."""
    seen, loss = [], model.decode_head.loss_decode
    forward = loss.forward

    def record(logits, labels, images=None, **options):
        seen.append(images)
        return forward(logits, labels, images, **options)

    loss.forward = record
    return seen


@pytest.mark.parametrize('normalised', [True, False])
def test_images_are_those_of_the_batch(normalised):
    overrides = {}
    if not normalised:
        overrides['data_preprocessor'] = dict(type='SegDataPreProcessor', size=(64, 64))
    model = stock_model.build(decode_head=ENERGY, **overrides)
    seen, hook = images_of(model), LossImagesHook()
    hook.attach(model)
    data = stock_model.batch()
    model(**model.data_preprocessor(data, True), mode='loss')
    images = torch.stack(data['inputs']).float()
    if normalised:
        images = images.flip(1)  # to RGB
    # to a thousandth of a level: normalised and back
    assert_close(seen[0], images, rtol=0, atol=1e-3)
    hook.detach()
    with pytest.raises(TypeError, match='LossImagesHook'):
        model(**model.data_preprocessor(data, True), mode='loss')


@pytest.fixture
def single_process_group(tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('wrapped', [False, True])
def test_in_a_training(tmp_path, wrapped, single_process_group):
    model = stock_model.build(decode_head=ENERGY)
    seen = images_of(model)
    data = stock_model.batch()
    runner = train(
        MMDistributedDataParallel(model) if wrapped else model,
        tmp_path,
        dict(by_epoch=False, max_iters=3),
        custom_hooks=[HOOK],
        dataset=[
            dict(inputs=image, data_samples=sample) for image, sample in zip(*data.values())
        ],
    )
    assert runner.iter == 3 and len(seen) == 3
    assert all(image is not None for image in seen)
    assert not model._forward_pre_hooks  # as it was
    (loss,) = (part for part in model.modules() if isinstance(part, DenseEnergyLoss))
    assert not loss._forward_pre_hooks


def test_more_hands_images_on_by_itself():
    model = tiny_model(iteration=5000)
    LossImagesHook().attach(model)
    inputs, labels = torch.randn(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.long)
    images = 255 * torch.rand(1, 3, 64, 64)
    loss = model.loss_schedule['energy']
    logits = torch.randn(1, 4, 64, 64)
    expected = DenseEnergyLoss(loss_weight=loss.loss_weight)(logits, labels, images)
    model(inputs)
    # the energy is smaller than the default absolute tolerance
    assert_close(loss(logits, labels, images), expected, rtol=1e-5, atol=0)


def test_no_loss_that_compares_with_images():
    with pytest.raises(ValueError, match='no loss of EncoderDecoder compares with images'):
        LossImagesHook().attach(stock_model.build())
