"""The newest whole checkpoint is never lost."""

import errno
import resource
from contextlib import contextmanager

import pytest
import torch
from mmengine import hooks
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope

import iteration_run
from mmseg_more.engine.checkpoint_files import damage
from mmseg_more.engine.hooks import CheckpointHook

from mmseg.registry import HOOKS

pytestmark = pytest.mark.usefixtures('one_thread')


@contextmanager
def full_disk(size=4096):
    """No file of this process may grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FullDisk(Hook):
    """From an iteration (counted from 1) on."""

    def __init__(self, iteration):
        self.iteration = iteration
        self.limit = full_disk()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            self.limit.__enter__()

    def end(self):
        self.limit.__exit__(None, None, None)


def saving(**options):
    return dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, **options))


def names(folder):
    return {path.name for path in folder.iterdir() if not path.is_dir()}


def train(folder, max_iters=6, custom_hooks=(), **options):
    net, seen = iteration_run.model()
    runner = iteration_run.train(
        net,
        folder,
        dict(by_epoch=False, max_iters=max_iters),
        custom_hooks=list(custom_hooks),
        **options,
    )
    return runner, seen


def test_every_config_in_the_scope_has_it():
    with DefaultScope.overwrite_default_scope('mmseg'):
        hook = hooks.checkpoint_hook.HOOKS.build(dict(type='CheckpointHook'))
    assert type(hook) is CheckpointHook
    assert type(HOOKS.build(dict(type='CheckpointHook', interval=3))) is CheckpointHook
    plain = HOOKS.build(dict(type='mmengine.CheckpointHook'))
    assert type(plain) is hooks.CheckpointHook


@pytest.mark.parametrize('averaged', [False, True])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, averaged):
    disk = FullDisk(4)
    ema = [dict(type='EMAHook')] if averaged else []
    try:
        with pytest.raises(OSError, match='iter_2.pth is whole.*--resume') as error:
            train(
                tmp_path,
                custom_hooks=[disk, *ema],
                default_hooks=saving(interval=2, max_keep_ckpts=1),
            )
    finally:
        disk.end()
    assert error.value.errno == errno.EFBIG
    assert error.value.filename == str(tmp_path / 'iter_4.pth')
    assert names(tmp_path) - {'config.py'} >= {'iter_2.pth', 'last_checkpoint'}
    assert not [name for name in names(tmp_path) if 'iter_4' in name]
    assert damage(tmp_path / 'iter_2.pth') is None
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_2.pth')
    _, seen = train(tmp_path, resume=True, custom_hooks=ema)
    assert seen == [2, 3, 4, 5]


def test_the_old_ones_go_in_the_end(tmp_path):
    train(tmp_path, default_hooks=saving(interval=1, max_keep_ckpts=2))
    assert {n for n in names(tmp_path) if n.endswith('.pth')} == {
        'iter_5.pth',
        'iter_6.pth',
    }
    train(tmp_path, 8, resume=True, default_hooks=saving(interval=1, max_keep_ckpts=2))
    assert {n for n in names(tmp_path) if n.endswith('.pth')} == {
        'iter_7.pth',
        'iter_8.pth',
    }


def test_the_best_one_goes_when_a_better_one_is_whole(tmp_path):
    runner, _ = train(tmp_path, 2, default_hooks=saving(interval=-1, save_last=False))
    hook = CheckpointHook(by_epoch=False, save_best='mIoU', rule='greater')
    hook.before_run(runner)
    hook.before_train(runner)
    hook.after_val_epoch(runner, dict(mIoU=1.0))
    assert damage(tmp_path / 'best_mIoU_iter_2.pth') is None
    runner.train_loop._iter = 4
    hook.after_val_epoch(runner, dict(mIoU=0.5))
    assert 'best_mIoU_iter_2.pth' in names(tmp_path)
    hook.after_val_epoch(runner, dict(mIoU=2.0))
    assert {n for n in names(tmp_path) if 'best' in n} == {'best_mIoU_iter_4.pth'}
    hook.after_val_epoch(runner, dict(mIoU=3.0))  # of the same iteration
    assert {n for n in names(tmp_path) if 'best' in n} == {'best_mIoU_iter_4.pth'}
    runner.train_loop._iter = 6
    with full_disk(), pytest.raises(OSError):
        hook.after_val_epoch(runner, dict(mIoU=4.0))
    assert {n for n in names(tmp_path) if 'best' in n} == {'best_mIoU_iter_4.pth'}


def test_a_best_one_by_a_figure_that_there_is_not(tmp_path):
    runner, _ = train(tmp_path, 2, default_hooks=saving(interval=-1, save_last=False))
    hook = CheckpointHook(by_epoch=False, save_best='health/scor', rule='greater')
    hook.before_run(runner)
    hook.before_train(runner)
    figures = {'health/score': 1.0, 'mIoU': 2.0}
    with pytest.raises(ValueError) as error:
        hook.after_val_epoch(runner, figures)
    assert str(error.value) == (
        "save_best='health/scor' of the CheckpointHook is no figure of the validation, "
        "did you mean 'health/score'? There are: health/score, mIoU"
    )
    hook.key_indicators = ['mAP']
    with pytest.raises(ValueError, match='of the validation. There are: health/score, m'):
        hook.after_val_epoch(runner, figures)


def test_one_best_of_each_figure(tmp_path):
    runner, _ = train(tmp_path, 2, default_hooks=saving(interval=-1, save_last=False))
    hook = CheckpointHook(by_epoch=False, save_best=['a', 'b'], rule='greater')
    hook.before_run(runner)
    hook.before_train(runner)
    hook.after_val_epoch(runner, dict(a=1.0, b=1.0))
    runner.train_loop._iter = 4
    hook.after_val_epoch(runner, dict(a=2.0, b=0.0))
    found = {n for n in names(tmp_path) if 'best' in n}
    assert found == {'best_a_iter_4.pth', 'best_b_iter_2.pth'}


def test_resume_takes_the_newest_whole_one(tmp_path):
    train(tmp_path)
    for name in ('iter_4.pth', 'iter_6.pth'):
        with open(tmp_path / name, 'r+b') as file:
            file.truncate(3000)
    (tmp_path / '.iter_8.pth.abcd_123').write_bytes(b'half')
    _, seen = train(tmp_path, 4, resume=True)
    assert seen == [2, 3]
    assert '.iter_8.pth.abcd_123' not in names(tmp_path)
    said = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert f'skipped {tmp_path}/iter_6.pth (3000 bytes, cut off' in said
    assert f'skipped {tmp_path}/iter_4.pth (3000 bytes, cut off' in said


def test_resume_without_any_whole_one(tmp_path):
    train(tmp_path, 2)
    (tmp_path / 'iter_2.pth').write_bytes(b'')
    with pytest.raises(ValueError, match='no checkpoint is whole.*iter_2.pth.*load_from'):
        train(tmp_path, 4, resume=True)


def test_a_test_beside_a_training_leaves_its_files(tmp_path):
    """A checkpoint that is being written has such a name."""
    writing = tmp_path / '.iter_2.pth.a1b2c3d4'
    runner, _ = train(tmp_path)
    writing.write_bytes(b'half')
    runner._train_loop = None  # as of a runner that was asked for a test
    CheckpointHook(by_epoch=False).before_run(runner)
    assert writing.is_file()
    train(tmp_path)
    assert not writing.exists()


def test_resume_in_an_empty_folder_starts_anew(tmp_path):
    _, seen = train(tmp_path, 2, resume=True)
    assert seen == [0, 1]


def test_a_named_checkpoint_is_not_looked_at(tmp_path):
    """`load_from` says which; MMEngine reads it."""
    train(tmp_path / 'a', 2)
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'iter_9.pth').write_bytes(b'')
    _, seen = train(
        tmp_path / 'b', 4, resume=True, load_from=str(tmp_path / 'a' / 'iter_2.pth')
    )
    assert seen == [2, 3]


def test_another_folder_for_checkpoints(tmp_path):
    saver = saving(interval=2, out_dir=str(tmp_path / 'out'))
    train(tmp_path / 'work', 2, default_hooks=saver)
    assert damage(tmp_path / 'out' / 'work' / 'iter_2.pth') is None
    _, seen = train(tmp_path / 'work', 4, resume=True, default_hooks=saver)
    assert seen == [2, 3]
    named = (tmp_path / 'work' / 'last_checkpoint').read_text()
    assert torch.load(named)['meta']['iter'] == 4
