"""A classifier of patches that starts from vectors of class names."""

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner import load_checkpoint
from torch.testing import assert_close

from mmseg_more.models.text_classifier import FrozenClassifier, classifier_rows
from mmseg_more.text_vectors import TextVectors, write_text_vectors
from tiny_model import batch, tiny_config, tiny_model

from mmseg.registry import MODELS


def vectors(num_classes=3, channels=16, background=2):
    rng = np.random.default_rng(0)
    return TextVectors(
        np.array([f'class {index}' for index in range(num_classes)]),
        rng.normal(size=(num_classes, channels)).astype('float32'),
        np.array([f'word {index}' for index in range(background)], dtype=str),
        rng.normal(size=(background, channels)).astype('float32'),
    )


@pytest.fixture
def file(tmp_path):
    write_text_vectors(tmp_path / 'text.npz', vectors())
    return str(tmp_path / 'text.npz')


def test_logits_compare_with_the_background():
    """Zero for a patch that is as similar to the class as to the background."""
    found = vectors()
    rows = classifier_rows(found).double()
    background = torch.from_numpy(found.background_vectors).double().mean(dim=0)
    for row, vector in zip(rows, torch.from_numpy(found.vectors).double()):
        assert_close(row / row.norm(), (vector - background) / (vector - background).norm())
        patch = torch.randn(16, dtype=torch.float64)
        assert (row @ patch > 0) == (vector @ patch > background @ patch)


def test_without_background():
    found = vectors(background=0)
    rows = classifier_rows(found)
    ratio = rows / torch.from_numpy(found.vectors)
    assert_close(ratio, ratio[:1, :1].expand_as(ratio))


def test_size_is_that_of_a_random_start():
    norm = classifier_rows(vectors(channels=768)).norm(dim=1).mean()
    drawn = torch.nn.Conv2d(768, 80, 1, bias=False).weight.flatten(1).norm(dim=1).mean()
    assert_close(norm, drawn, rtol=0.02, atol=0)  # of some 60 000 draws


def test_start(file):
    """The classifier alone, and in its names: a model without the option takes it over."""
    model, plain = tiny_model(text_classifier=dict(file=file)), tiny_model()
    assert_close(model.classifier.weight.flatten(1), classifier_rows(vectors()))
    assert model.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]) == (name != 'classifier.weight')
    assert all(parameter.requires_grad for parameter in model.parameters())


def train(model, steps=2):
    optim_wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor='MergedOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1),
            paramwise_cfg=dict(custom_keys=dict(classifier=dict(lr_mult=10.0))),
        ),
    )
    for _ in range(steps):
        losses = model.train()(*batch([1, 0, 1], [0, 1, 0]), mode='loss')
        optim_wrapper.update_params(sum(losses.values()))


def test_frozen(file):
    """Rows stay; their common factor, and all that is not the classifier, learns."""
    model = tiny_model(3000, text_classifier=dict(file=file, frozen=True))
    rows = classifier_rows(vectors())
    aux = model.aux_classifier.weight.clone()
    train(model)
    assert_close(model.classifier.weight.flatten(1), rows, rtol=0, atol=0)
    assert model.classifier.logit_scale.abs() > 0.01
    assert not torch.equal(model.aux_classifier.weight, aux)


@pytest.mark.parametrize('frozen', [False, True])
def test_every_trained_parameter_gets_a_gradient(file, frozen):
    for losses in (None, dict(seg=dict(type='BalancedCrossEntropyLoss'))):
        changed = {} if losses is None else dict(losses=losses)
        options = dict(file=file, frozen=frozen)
        backbone = dict(tiny_config().backbone, frozen_stages=4)
        model = tiny_model(3000, text_classifier=options, backbone=backbone, **changed)
        sum(model(*batch([1, 0, 1]), mode='loss').values()).backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name


def test_factor():
    classifier, x = FrozenClassifier(16, 3), torch.randn(2, 16, 4, 5)
    plain = classifier(x)
    assert_close(plain, torch.einsum('kd,bdhw->bkhw', classifier.weight[..., 0, 0], x))
    classifier.logit_scale.data.fill_(2.0)
    assert_close(classifier(x), plain * torch.tensor(2.0).exp())


@pytest.mark.parametrize('frozen', [False, True])
def test_file_is_needed_for_a_start_alone(file, tmp_path, frozen):
    """A test has the weights from the checkpoint."""
    model = tiny_model(text_classifier=dict(file=file, frozen=frozen)).eval()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'more.pth')
    elsewhere = dict(file='not/here.npz', frozen=frozen)
    again = MODELS.build(tiny_config(text_classifier=elsewhere)).eval()
    load_checkpoint(again, str(tmp_path / 'more.pth'), strict=True)
    images, _ = batch([1, 0, 1])
    # sums in another order
    assert_close(again.localize(images).cam, model.localize(images).cam, atol=1e-6, rtol=0)
    with pytest.raises(FileNotFoundError, match='not/here.npz does not exist: .*clip_text'):
        again.init_weights()


@pytest.mark.parametrize(
    'found, message',
    [
        (vectors(num_classes=2), 'has 2 classes of 16 channels, the model 3 of 16'),
        (vectors(channels=8), 'has 3 classes of 8 channels, the model 3 of 16'),
    ],
)
def test_file_of_another_model(tmp_path, found, message):
    write_text_vectors(tmp_path / 'text.npz', found)
    with pytest.raises(ValueError, match=message):
        tiny_model(text_classifier=dict(file=str(tmp_path / 'text.npz')))


@pytest.mark.parametrize(
    'options', [dict(frozen=True), dict(file='text.npz', mode='frozen')], ids=str
)
def test_impossible_options(options):
    with pytest.raises(ValueError, match='text_classifier takes file, frozen and needs'):
        tiny_model(text_classifier=options)
