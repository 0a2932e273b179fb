"""Trainings of a very small MoRe that go on from a checkpoint of an unbroken one."""

import random
from unittest import mock

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope

from mask_run import make_data
from mmseg_more.engine.train_loop import ResumableTrainLoop
from resume_run import LENGTH, assert_same, log_of, resume_config, run, train_rank

from mmseg.registry import HOOKS

# a batch norm must not count the iterations twice whose gradients are computed again
ACCUMULATED = {
    'optim_wrapper.accumulative_counts': 2,
    'model.decode_head.norm_cfg': dict(type='BN'),
}
MIXED = {'optim_wrapper.type': 'CPUAmpOptimWrapper'}
# epochs, with a smaller batch at their ends; dropout draws numbers
EPOCHS = {
    'model.decode_head.dropout_ratio': 0.2,
    'train_dataloader.sampler': dict(type='DefaultSampler', shuffle=True),
    'train_dataloader.batch_size': 4,
}


@HOOKS.register_module()
class DrawHook(Hook):
    """Draws numbers, as validations and hooks may."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        random.random(), np.random.rand(), torch.rand(3)


@pytest.mark.parametrize('max_iters', [0, -5, 'two'])
def test_a_training_of_no_length(max_iters):
    with pytest.raises(ValueError, match='train_cfg.max_iters must be a whole number of'):
        ResumableTrainLoop(None, {}, max_iters)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return make_data(tmp_path_factory.mktemp('resume') / 'data')


@pytest.fixture(autouse=True)
def default_scope(one_thread):
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):
    """Folder of an unbroken training without workers."""
    folder = tmp_path_factory.mktemp('whole')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the tests: roundings depend on it
    with DefaultScope.overwrite_default_scope('mmseg'):
        run(resume_config(data, folder))
    torch.set_num_threads(threads)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1, 4])
@pytest.mark.parametrize('iteration', [1, 3])
def test_resumed_is_unbroken(data, whole, tmp_path, workers, iteration):
    """At iteration 3 a validation and a check of HealthHook are due."""
    options = {'train_dataloader.num_workers': workers}
    checkpoint = whole / f'iter_{iteration}.pth'
    run(resume_config(data, tmp_path, checkpoint, **options))
    assert_same(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    'options, iterations',
    [
        (ACCUMULATED, (2, 3)),
        (MIXED, (3,)),
        ({**MIXED, **ACCUMULATED}, (3,)),
        (EPOCHS, (4,)),
    ],
    ids=['accumulated', 'bfloat16', 'both', 'epochs'],
)
def test_kinds_of_training(data, tmp_path, options, iterations):
    run(resume_config(data, tmp_path / 'whole', **options))
    for iteration in iterations:
        folder = tmp_path / str(iteration)
        checkpoint = tmp_path / f'whole/iter_{iteration}.pth'
        run(resume_config(data, folder, checkpoint, **options))
        assert_same(folder, tmp_path / 'whole')


@HOOKS.register_module()
class KilledAtTheEndHook(Hook):
    """Ends a training between its last checkpoint and the validation after it."""

    def before_val(self, runner):
        if runner.iter == LENGTH:
            raise RuntimeError('killed')


@pytest.mark.slow
def test_killed_in_the_last_validation(data, tmp_path):
    """Its figures, and that it is the best, are added to the checkpoint before it."""
    options = {'train_cfg.val_interval': LENGTH}  # the first one, so it is the best
    run(resume_config(data, tmp_path / 'whole', **options))
    cfg = resume_config(data, tmp_path / 'killed', **options)
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='KilledAtTheEndHook')]
    with pytest.raises(RuntimeError, match='killed'):
        run(cfg)
    checkpoint = tmp_path / f'killed/iter_{LENGTH}.pth'
    run(resume_config(data, tmp_path / 'killed', checkpoint, **options))
    assert_same(tmp_path / 'killed', tmp_path / 'whole')


@pytest.mark.slow
def test_hooks_may_draw_numbers(data, whole, tmp_path):
    cfg = resume_config(data, tmp_path, whole / 'iter_2.pth')
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='DrawHook')]
    run(cfg)
    assert_same(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize('rank_seeds', [False, True])
def test_the_first_seed_is_kept(data, tmp_path, rank_seeds):
    cfg = resume_config(data, tmp_path / 'whole')
    cfg.randomness = dict(seed=None, diff_rank_seed=rank_seeds)
    run(cfg)
    cfg = resume_config(data, tmp_path / 'resumed', tmp_path / 'whole/iter_2.pth')
    cfg.randomness = dict(seed=None, diff_rank_seed=rank_seeds)
    run(cfg)
    assert_same(tmp_path / 'resumed', tmp_path / 'whole')
    seed = torch.load(tmp_path / 'whole/iter_2.pth', weights_only=False)['meta']['seed']
    assert f'goes on with the seed of its first start, {seed}.' in log_of(
        tmp_path / 'resumed'
    )


@pytest.mark.slow
def test_a_seed_of_the_sampler_stays(data, tmp_path):
    options = {
        'train_dataloader.sampler.seed': 7,
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 9,
    }
    runner = run(resume_config(data, tmp_path / 'own', **options))
    assert runner.train_dataloader.batch_sampler.sampler.seed == 7
    del options['train_dataloader.sampler.seed']
    runner = run(resume_config(data, tmp_path / 'other', **options))
    assert runner.train_dataloader.batch_sampler.sampler.seed == 0


@pytest.mark.slow
def test_two_processes(data, tmp_path):
    for name, checkpoint in (('whole', None), ('resumed', tmp_path / 'whole/iter_3.pth')):
        arguments = (2, str(data), str(tmp_path / name), checkpoint and str(checkpoint))
        (tmp_path / name).mkdir()
        mp.spawn(train_rank, arguments, nprocs=2, join=True)
    assert_same(tmp_path / 'resumed', tmp_path / 'whole')


@pytest.mark.slow
def test_a_longer_training(data, tmp_path):
    """Its rates are those of a training of that length."""
    schedule = dict(type='PolyWarmupLR', warmup_iters=2, by_epoch=False)
    options = {'param_scheduler': [schedule]}
    run(resume_config(data, tmp_path / 'short', **options))
    last = tmp_path / f'short/iter_{LENGTH}.pth'
    options['train_cfg.max_iters'] = LENGTH + 3
    runner = run(resume_config(data, tmp_path / 'long', last, **options))
    assert runner.iter == LENGTH + 3
    log = log_of(tmp_path / 'long')
    assert f'max_iters is {LENGTH + 3} now and was {LENGTH}' in log
    assert f'PolyWarmupLR ends at iteration {LENGTH + 3} now' in log
    unbroken = run(resume_config(data, tmp_path / 'unbroken', **options))
    lr = [
        r.message_hub.get_scalar('train/lr').data[0][-3:].tolist()
        for r in (runner, unbroken)
    ]
    assert lr[0] == lr[1] and min(lr[0]) > 0


@pytest.mark.slow
def test_more_iterations_than_are_left(data, whole, tmp_path):
    options = {'train_cfg.max_iters': 3, 'train_cfg.val_interval': 9}
    runner = run(resume_config(data, tmp_path, whole / 'iter_4.pth', **options))
    assert runner.iter == 4
    assert '4 iterations are done, of 3: no more.' in log_of(tmp_path)


@pytest.mark.slow
def test_accumulation_at_the_end_of_a_shorter_training(data, tmp_path):
    """Its last iteration has updated the weights: nothing is accumulated again."""
    short = {**ACCUMULATED, 'train_cfg.max_iters': 3}
    run(resume_config(data, tmp_path / 'short', **short))
    resumed = resume_config(
        data, tmp_path / 'long', tmp_path / 'short/iter_3.pth', **ACCUMULATED
    )
    with mock.patch.object(ResumableTrainLoop, '_seed_step') as seed:
        run(resumed)
    assert [call.args[0] for call in seed.call_args_list] == list(range(3, LENGTH))


def test_a_loader_that_is_built():
    with pytest.raises(TypeError, match="type='IterBasedTrainLoop'"):
        ResumableTrainLoop(mock.Mock(), mock.Mock(), max_iters=3)
