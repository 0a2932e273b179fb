import pytest
import torch
from mmengine.model import MMDistributedDataParallel

from iteration_run import model, train
from tiny_model import batch, tiny_config, tiny_model

from mmseg.registry import HOOKS

BY_ITER = dict(by_epoch=False, max_iters=6)


def teacher_hook(**options):
    return dict(type='MeanTeacherHook', **options)


def record(net):
    """Lists of the weights of model and teacher at each step of a training."""
    students, teachers = [], []

    def before_step(*_):
        students.append(net.classifier.weight.detach().clone())
        teachers.append(
            None if net.teacher is None else net.teacher.classifier.weight.clone()
        )

    net.backbone.register_forward_pre_hook(before_step)
    return students, teachers


def test_teacher_is_the_average_of_the_weights_before(tmp_path):
    net, _ = model()
    students, teachers = record(net)
    options = dict(ema_type='ExponentialMovingAverage', momentum=0.25)
    train(net, tmp_path, custom_hooks=[teacher_hook(**options)])
    assert len(students) == 6
    average = students[0]
    torch.testing.assert_close(teachers[0], average, rtol=0, atol=0)
    for step in range(1, 6):
        # MMEngine's first update is a copy
        share = 1.0 if step == 1 else 0.25
        average = average + share * (students[step] - average)
        # steps are 1e-6 to 1e-4
        torch.testing.assert_close(teachers[step], average, rtol=0, atol=1e-8)
    assert (teachers[-1] - students[-1]).abs().max() > 1e-6
    assert net.teacher is None  # taken back


def test_annealed_average_begins_short():
    hook = HOOKS.build(teacher_hook(gamma=10))
    assert hook.ema_cfg == dict(type='MomentumAnnealingEMA', momentum=0.01, gamma=10)


@pytest.mark.parametrize('wrapped', [False, True])
def test_model_in_a_wrapper_gets_it(tmp_path, wrapped, single_process_group):
    net, _ = model()
    _, teachers = record(net)
    train(
        MMDistributedDataParallel(net) if wrapped else net,
        tmp_path,
        custom_hooks=[teacher_hook()],
    )
    assert all(weights is not None for weights in teachers)


@pytest.mark.parametrize('part', [dict(frozen_stages=4), dict(lora=dict(rank=2))], ids=str)
def test_part_of_the_backbone_is_trained(tmp_path, single_process_group, part):
    """In DistributedDataParallel too, which waits for gradients of nothing else."""
    net, _ = model(backbone=dict(tiny_config().backbone, **part))
    net.init_weights()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    _, teachers = record(net)
    net.init_weights = lambda: None  # done
    train(
        MMDistributedDataParallel(net), tmp_path, custom_hooks=[teacher_hook(momentum=0.25)]
    )
    assert all(weights is not None for weights in teachers)
    saved = torch.load(tmp_path / 'iter_6.pth', weights_only=False)['state_dict']
    assert set(saved) == set(before)
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            assert torch.equal(parameter, before[name]), name
            assert torch.equal(saved[name], before[name]), name
    assert not torch.equal(saved['backbone.cls_token'], before['backbone.cls_token'])


@pytest.fixture
def single_process_group(tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_checkpoint_holds_both_and_resume_goes_on(tmp_path):
    options = dict(custom_hooks=[teacher_hook()])
    whole, _ = model()
    _, expected = record(whole)
    train(whole, tmp_path / 'whole', **options)

    checkpoint = torch.load(tmp_path / 'whole/iter_4.pth', weights_only=False)
    student, _ = model()
    assert set(checkpoint['state_dict']) == set(student.state_dict())
    saved = checkpoint['state_dict']['classifier.weight']
    torch.testing.assert_close(saved, expected[4], rtol=0, atol=0)

    again, _ = model()
    _, teachers = record(again)
    resumed = dict(options, load_from=str(tmp_path / 'whole/iter_4.pth'), resume=True)
    train(again, tmp_path / 'again', **resumed)
    torch.testing.assert_close(teachers, expected[4:], rtol=0, atol=0)


def test_model_that_takes_no_teacher_is_named(tmp_path):
    net, _ = model()
    hook = HOOKS.build(teacher_hook())
    hook.src_model = hook.ema_model = torch.nn.Sequential(torch.nn.Linear(1, 1))
    hook.ema_model.module = torch.nn.Linear(1, 1)

    class Run:
        model = torch.nn.Linear(1, 1)
        max_iters = 6

    with pytest.raises(AttributeError, match='Linear has no attribute "learn_from"'):
        hook.before_train(Run)


# ------------------------------------------------------------------- what the model does
def test_labels_come_from_the_teacher():
    inputs, samples = batch([1, 0, 1], [0, 1, 0])
    net, teacher = tiny_model(iteration=3000), tiny_model().eval()
    own = net.loss(inputs, samples)
    with torch.no_grad():
        for parameter in teacher.classifier.parameters():
            parameter.neg_()  # the reverse of the maps
        for parameter in teacher.aux_classifier.parameters():
            parameter.neg_()
    net.learn_from(teacher)
    taught = net.loss(inputs, samples)
    for name in ('loss_cls', 'loss_cls_aux', 'loss_mct'):  # compare with no map
        torch.testing.assert_close(taught[name], own[name], rtol=0, atol=0)
    for name in ('loss_ptc', 'loss_seg'):
        assert not torch.allclose(taught[name], own[name]), name

    sum(taught.values()).backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_teacher_of_the_same_weights_changes_nothing():
    inputs, samples = batch([1, 0, 1], [0, 1, 0])
    net = tiny_model(iteration=3000)
    torch.manual_seed(0)
    own = net.loss(inputs, samples)
    net.learn_from(tiny_model().eval())
    torch.manual_seed(0)
    torch.testing.assert_close(net.loss(inputs, samples), own)


def test_weights_of_the_teacher_are_not_the_models():
    net = tiny_model()
    names, count = set(net.state_dict()), len(list(net.parameters()))
    net.learn_from(tiny_model())
    assert set(net.state_dict()) == names
    assert len(list(net.parameters())) == count
    net.learn_from(None)
    assert net.teacher is None
