"""The model knows its iteration in whatever training MMEngine runs."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

import iteration_run
from iteration_run import BY_EPOCH, BY_ITER
from tiny_model import batch, tiny_config, tiny_model

from mmseg.registry import MODELS


@pytest.mark.parametrize(
    'train_cfg, options',
    [
        (BY_ITER, dict(custom_hooks=[])),
        (BY_EPOCH, dict(custom_hooks=[])),
        (BY_ITER, dict(default_hooks=dict(runtime_info=None))),
        (BY_ITER, dict(custom_hooks=[dict(type='IterationHook')])),
        (BY_EPOCH, dict(optim_wrapper=dict(accumulative_counts=2))),
    ],
)
def test_every_step(tmp_path, train_cfg, options):
    model, seen = iteration_run.model()
    iteration_run.train(model, tmp_path, train_cfg, **options)
    assert seen == list(range(6))


@pytest.mark.parametrize(
    'train_cfg, checkpoint, expected, counts',
    [
        (dict(BY_ITER, max_iters=7), 'iter_4.pth', [4, 5, 6], 3),
        (dict(BY_EPOCH, max_epochs=3), 'epoch_1.pth', [3, 4, 5, 6, 7, 8], 1),
    ],
)
def test_resumed(tmp_path, train_cfg, checkpoint, expected, counts):
    model, _ = iteration_run.model()
    by_epoch = train_cfg['by_epoch']
    iteration_run.train(model, tmp_path, BY_EPOCH if by_epoch else BY_ITER)
    model, seen = iteration_run.model()
    iteration_run.train(
        model,
        tmp_path,
        train_cfg,
        load_from=str(tmp_path / checkpoint),
        resume=True,
        optim_wrapper=dict(accumulative_counts=counts),
    )
    assert seen == expected


@pytest.mark.slow
@pytest.mark.parametrize('hooks', [(), ('IterationHook',)], ids=['no hook', 'hook'])
def test_two_processes(tmp_path, hooks):
    torch.multiprocessing.spawn(
        iteration_run.train_rank, (2, str(tmp_path), hooks), nprocs=2, join=True
    )
    for rank in range(2):
        assert torch.load(tmp_path / f'{rank}.pt') == list(range(6))


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_a_second_training_in_the_process(tmp_path, process_group):
    """Of one name, so of one message hub; resumed, and of a model that was trained."""
    for start in range(2):
        model, seen = iteration_run.model()
        wrapper = MMDistributedDataParallel(model)
        iteration_run.train(wrapper, tmp_path / str(start), name='one')
        assert seen == list(range(6))
    iteration_run.train(
        wrapper,
        tmp_path / 'resumed',
        dict(BY_ITER, max_iters=8),
        name='one',
        load_from=str(tmp_path / '1/iter_4.pth'),
        resume=True,
    )
    assert seen == [*range(6), 4, 5, 6, 7]


def test_nobody_says_the_iteration(tmp_path, process_group):
    """Better no training than one whose losses never begin."""
    hooks = dict(default_hooks=dict(runtime_info=None))
    net, seen = iteration_run.model()
    with pytest.raises(RuntimeError, match='RuntimeInfoHook.*IterationHook'):
        iteration_run.train(MMDistributedDataParallel(net), tmp_path, **hooks)
    hooks['custom_hooks'] = [dict(type='IterationHook')]
    iteration_run.train(MMDistributedDataParallel(net), tmp_path, **hooks)
    assert seen == list(range(6))


def test_what_is_set_stays_where_nobody_trains(tmp_path):
    iteration_run.train(iteration_run.model()[0], tmp_path)
    assert MessageHub.get_current_instance().get_info('iter') == 5
    inputs, samples = batch([1, 0, 1])
    model = tiny_model(losses=iteration_run.LOSSES)
    model.loss(inputs, samples)
    model(inputs, samples, mode='loss')
    assert model.iteration == 0
    model.iteration = 5000
    model.loss(inputs, samples)
    model(inputs, samples, mode='loss')
    # in a loop of one's own, whose optimizer wrapper no runner has started
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    data = dict(inputs=list((inputs * 50).byte()), data_samples=samples)
    for _ in range(2):
        model.train_step(data, optim_wrapper)
    assert model.iteration == 5000


def test_a_training_goes_on_after_what_was_set(tmp_path):
    model, seen = iteration_run.model()
    model.iteration = 5000
    iteration_run.train(model, tmp_path)
    assert seen == list(range(6))


# ------------------------------------------------------------------ updates
def scheduled_model(**overrides):
    """With a list of (begun losses, final CAM) of each step; both begin after unit 1."""
    net = MODELS.build(
        tiny_config(
            losses=dict(
                cls=dict(type='MultiLabelSoftMarginLoss'),
                cls_aux=dict(type='MultiLabelSoftMarginLoss', begin=1),
            ),
            pseudo_label=dict(switch_iter=1),
            **overrides,
        )
    )
    net.data_preprocessor.size = (64, 64)
    seen = []

    def record(*_):
        active, final_cam = net._schedule()
        seen.append(('cls_aux' in active.names, final_cam))

    net.backbone.register_forward_pre_hook(record)
    return net, seen


@pytest.mark.parametrize(
    'unit, counts, first',
    [('iterations', 2, 2), ('updates', 2, 4), ('updates', 1, 2), ('updates', 4, None)],
)
def test_schedule_unit(tmp_path, unit, counts, first):
    """All iterations of an update have the losses of that update."""
    net, seen = scheduled_model(schedule_unit=unit)
    iteration_run.train(net, tmp_path, optim_wrapper=dict(accumulative_counts=counts))
    begun = [first is not None and step >= first for step in range(6)]
    assert seen == [(value, value) for value in begun]
    assert net.iteration == 5


def test_updates_after_resuming(tmp_path):
    net, _ = scheduled_model()
    iteration_run.train(net, tmp_path, dict(BY_ITER, max_iters=2))
    net, seen = scheduled_model(schedule_unit='updates')
    iteration_run.train(
        net,
        tmp_path,
        load_from=str(tmp_path / 'iter_2.pth'),
        resume=True,
        optim_wrapper=dict(accumulative_counts=2),
    )
    assert [begun for begun, _ in seen] == [False, False, True, True]


def test_updates_in_a_wrapper(tmp_path, process_group):
    """The wrapper calls the model without the optimizer: the hook says what it counts."""
    options = dict(optim_wrapper=dict(accumulative_counts=2))
    net, _ = scheduled_model(schedule_unit='updates')
    with pytest.raises(RuntimeError, match="schedule_unit='updates'.*IterationHook"):
        iteration_run.train(MMDistributedDataParallel(net), tmp_path, **options)
    net, seen = scheduled_model(schedule_unit='updates')
    options['custom_hooks'] = [dict(type='IterationHook')]
    iteration_run.train(
        MMDistributedDataParallel(net, find_unused_parameters=True), tmp_path, **options
    )
    assert [begun for begun, _ in seen] == [False] * 4 + [True] * 2


def test_updates_in_a_loop_of_ones_own():
    model = tiny_model(schedule_unit='updates')
    model.iteration = 7
    model.iterations_per_update = 4
    assert model.schedule_step(model.iteration) == 1


def test_unknown_schedule_unit():
    with pytest.raises(ValueError, match="schedule_unit must be one of.*'epochs'"):
        tiny_model(schedule_unit='epochs')
