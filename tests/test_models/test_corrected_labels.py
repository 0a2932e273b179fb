"""Where people have labelled pixels, the segmentation losses compare with their labels."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from torch.testing import assert_close

from iteration_run import BY_EPOCH, BY_ITER, Images, train
from tiny_model import batch, tiny_model

SEG = dict(seg=dict(type='BalancedCrossEntropyLoss', loss_weight=1.0, begin=3))
LABELS = ([1, 0, 1], [0, 1, 0])


def corrected_mask(size=(64, 64)):
    """A cat's head: rows of background and of the third class; the rest is left open."""
    mask = torch.full((1, *size), 255)
    mask[:, 8:20], mask[:, 30:40, 5:25] = 0, 3
    return mask


def correct(samples, index=0, size=(64, 64)):
    """The samples, one of which has a corrected mask."""
    samples = copy.deepcopy(samples)
    mask = PixelData(data=corrected_mask(size))
    samples[index].set_field(mask, 'corrected_sem_seg')
    return samples


class Watched:
    """Labels of the segmentation losses, and the gradients of their logits, at a step."""

    def __init__(self, model, inputs, samples):
        self.labels, self.logits = {}, {}
        hooks = [
            loss.register_forward_pre_hook(
                lambda _, args, name=name: self.note(name, *args[:2])
            )
            for name, loss in model.loss_schedule.losses.items()
            if name in ('seg', 'energy')
        ]
        torch.manual_seed(0)
        self.losses = model.loss(inputs, samples)
        for hook in hooks:
            hook.remove()

    def note(self, name, logits, labels):
        logits.retain_grad()
        self.logits[name], self.labels[name] = logits, labels

    def gradient(self):
        """Of loss_seg, in units of a pixel of the background or of the foreground."""
        self.losses['loss_seg'].backward()
        labels = self.labels['seg']
        foreground = (labels != 0) & (labels != 255)
        counts = torch.where(foreground, foreground.sum(), (labels == 0).sum())
        return self.logits['seg'].grad * (2 * counts[:, None])


def test_labels_of_both_segmentation_losses_and_of_no_other():
    model = tiny_model(5000)
    inputs, samples = batch(*LABELS)
    plain = Watched(model, inputs, samples)
    corrected = Watched(model, inputs, correct(samples))
    mask = corrected_mask()[0]
    expected = plain.labels['seg'].clone()
    expected[0] = torch.where(mask == 255, expected[0], mask)
    assert (expected != plain.labels['seg']).any()
    for name in ('seg', 'energy'):
        assert_close(corrected.labels[name], expected, rtol=0, atol=0)
    for name, value in plain.losses.items():
        if name in ('loss_seg', 'loss_energy'):
            assert value != corrected.losses[name]
        else:
            assert torch.equal(value, corrected.losses[name]), name


def test_gradients_follow_the_corrected_labels_where_there_are_some():
    model = tiny_model(5000, losses=SEG)
    inputs, samples = batch(*LABELS)
    plain = Watched(model, inputs, samples).gradient()
    watched = Watched(model, inputs, correct(samples))
    gradient = watched.gradient()
    mask = corrected_mask()[0]
    covered = mask != 255
    probabilities = watched.logits['seg'][0].softmax(0)
    wanted = torch.nn.functional.one_hot(mask.where(covered, torch.tensor(0)), 4)
    expected = probabilities - wanted.permute(2, 0, 1)
    # the mean of a class has 1e-6 more pixels
    assert_close(gradient[0][:, covered], expected[:, covered], rtol=1e-4, atol=1e-6)
    assert_close(gradient[0][:, ~covered], plain[0][:, ~covered], rtol=1e-4, atol=1e-6)
    assert_close(gradient[1], plain[1], rtol=1e-4, atol=1e-6)
    assert (gradient[0][:, covered] - plain[0][:, covered]).abs().max() > 0.1


def test_before_the_segmentation_loss_they_count_for_nothing():
    model = tiny_model(3, losses={**SEG, 'cls': dict(type='MultiLabelSoftMarginLoss')})
    inputs, samples = batch(*LABELS)
    assert set(model.loss(inputs, correct(samples))) == {'loss_cls'}
    model.iteration = 4
    assert set(model.loss(inputs, correct(samples))) == {'loss_cls', 'loss_seg'}


def test_a_mask_of_255_changes_nothing():
    model = tiny_model(5000)
    inputs, samples = batch(*LABELS)
    open_mask = correct(samples)
    open_mask[0].corrected_sem_seg.data = torch.full((1, 64, 64), 255)
    plain, same = (Watched(model, inputs, s) for s in (samples, open_mask))
    assert all(torch.equal(plain.losses[k], same.losses[k]) for k in plain.losses)


def test_what_the_batch_was_padded_with_is_not_labelled():
    model = tiny_model(5000)
    inputs, samples = batch(*LABELS)
    smaller = correct(samples, index=1, size=(48, 56))
    plain, watched = (Watched(model, inputs, s) for s in (samples, smaller))
    expected = plain.labels['seg'].clone()
    mask = corrected_mask((48, 56))[0]
    expected[1, :48, :56] = torch.where(mask == 255, expected[1, :48, :56], mask)
    assert_close(watched.labels['seg'], expected, rtol=0, atol=0)


def test_the_teacher_makes_the_other_labels():
    model, teacher = tiny_model(5000), tiny_model(5000)
    with torch.no_grad():
        teacher.classifier.weight.neg_()
    model.learn_from(teacher)
    inputs, samples = batch(*LABELS)
    plain = Watched(model, inputs, samples).labels['seg']
    labels = Watched(model, inputs, correct(samples)).labels['seg']
    covered = corrected_mask()[0] != 255
    assert torch.equal(labels[0][covered], corrected_mask()[0][covered])
    assert torch.equal(labels[0][~covered], plain[0][~covered])
    model.learn_from(None)
    own = Watched(model, inputs, correct(samples)).labels['seg']
    assert (own[0][~covered] != plain[0][~covered]).any()


@pytest.mark.slow
def test_autocast():
    model = tiny_model(5000)
    inputs, samples = batch(*LABELS)
    with torch.autocast('cpu', torch.bfloat16):
        watched = Watched(model, inputs, correct(samples))
    covered = corrected_mask()[0] != 255
    assert torch.equal(watched.labels['seg'][0][covered], corrected_mask()[0][covered])
    assert watched.losses['loss_seg'].dtype == torch.float32


class SomeCorrected(Images):
    """Every third image has a corrected mask."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if index % 3 == 0:
            item['data_samples'] = correct([item['data_samples']])[0]
        return item


@pytest.mark.slow
@pytest.mark.parametrize('loop', [BY_ITER, BY_EPOCH])
@pytest.mark.parametrize('options', [{}, dict(custom_hooks=[dict(type='MeanTeacherHook')])])
def test_trainings_of_both_kinds(tmp_path, loop, options):
    model = tiny_model(losses=dict(seg=dict(type='BalancedCrossEntropyLoss')))
    model.data_preprocessor.size = (96, 96)  # pads images and not the masks
    seen = []
    model.loss_schedule.losses['seg'].register_forward_pre_hook(
        lambda _, args: seen.append(args[1])
    )
    train(model, tmp_path, loop, dataset=SomeCorrected(), **options)
    mask = corrected_mask()[0]
    covered = mask != 255
    images = [labels for pair in seen for labels in pair]
    assert len(images) == 12
    for index, labels in enumerate(images):
        follows = torch.equal(labels[:64, :64][covered], mask[covered])
        assert follows == (index % 6 % 3 == 0)
