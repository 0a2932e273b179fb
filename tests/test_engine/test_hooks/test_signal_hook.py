"""Trainings that are told to end."""

import os
import re
import shlex
import signal
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

import ending_run
import iteration_run
from ending_run import group_members, progress, start, wait_for
from mmseg_more.engine.checkpoint_files import damage
from mmseg_more.engine.hooks import signal_hook
from mmseg_more.engine.hooks.signal_hook import resume_command
from tiny_run import CONFIG

pytestmark = pytest.mark.usefixtures('one_thread')

SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]
NAMES = [number.name for number in SIGNALS]


def train(folder, *sent, hooks=(), default_hooks=None, **options):
    """A training that gets signals; returns its exit status and the iterations done."""
    net, seen = iteration_run.model()
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with pytest.raises(SystemExit) as stop:
            iteration_run.train(
                net,
                folder,
                default_hooks=dict(default_hooks or {}, signals=dict(type='SignalHook')),
                custom_hooks=[*(dict(type='Send', **one) for one in sent), *hooks],
                **options,
            )
    finally:
        for number, handler in zip(SIGNALS, before):
            signal.signal(number, handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return stop.value.code, seen


@pytest.mark.parametrize('number', SIGNALS, ids=NAMES)
def test_a_checkpoint_after_the_iteration(tmp_path, number, capfd):
    status, seen = train(tmp_path, dict(number=number, iteration=3))
    assert status == 128 + number
    assert seen == [0, 1, 2]
    assert damage(tmp_path / 'iter_3.pth') is None
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_3.pth')
    checkpoint = torch.load(tmp_path / 'iter_3.pth')
    assert checkpoint['meta']['iter'] == 3 and 'optimizer' in checkpoint
    (log,) = tmp_path.glob('*/*.log')
    assert f'{number.name}: ended after iteration 3; the checkpoint is' in log.read_text()
    assert '--resume' in log.read_text()
    assert 'ending after this iteration' in capfd.readouterr().err


def test_it_goes_on_from_there(tmp_path):
    train(tmp_path, dict(number=signal.SIGTERM, iteration=3))
    net, seen = iteration_run.model()
    iteration_run.train(net, tmp_path, resume=True)
    assert seen == [3, 4, 5]


def test_it_is_one_of_those_that_are_kept(tmp_path):
    saving = dict(type='CheckpointHook', interval=2, by_epoch=False, max_keep_ckpts=2)
    sent = dict(number=signal.SIGTERM, iteration=5)
    train(tmp_path, sent, default_hooks=dict(checkpoint=saving))
    assert {path.name for path in tmp_path.glob('*.pth')} == {'iter_4.pth', 'iter_5.pth'}


def test_nothing_done_nothing_saved(tmp_path):
    class Early(ending_run.Hook):
        priority = 'LOWEST'

        def before_train_epoch(self, runner):
            os.kill(os.getpid(), signal.SIGTERM)

    status, seen = train(tmp_path, hooks=[Early()])
    assert (status, seen) == (143, [])
    assert not list(tmp_path.glob('*.pth'))


def test_while_the_data_are_waited_for(tmp_path, monkeypatch):
    """The loader may never answer: its workers have got the signal too."""
    get = iteration_run.Images.__getitem__
    fetched = []

    def slow(self, index):
        fetched.append(index)
        if len(fetched) == 7:  # batches of two: that of the fourth iteration
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError('DataLoader worker exited unexpectedly')
        return get(self, index)

    monkeypatch.setattr(iteration_run.Images, '__getitem__', slow)
    status, seen = train(tmp_path)
    assert (status, seen) == (143, [0, 1, 2])
    assert torch.load(tmp_path / 'iter_3.pth')['meta']['iter'] == 3


def test_second_interrupt_ends_at_once(tmp_path, monkeypatch):
    """The first two come as one, as from a terminal and torchrun."""
    times = iter([0.0, 0.5, 2.0])
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr('mmseg_more.engine.hooks.signal_hook.time', clock)

    class Press(ending_run.Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)

    net, seen = iteration_run.model()
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD)
    try:
        with pytest.raises(KeyboardInterrupt):
            iteration_run.train(
                net, tmp_path, custom_hooks=[Press(), dict(type='SignalHook')]
            )
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGCHLD, before[1])
    assert seen == [0] and next(times, None) is None
    assert not list(tmp_path.glob('*.pth'))


def test_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(number) for number in (*SIGNALS, signal.SIGCHLD)]
    net, _ = iteration_run.model()
    iteration_run.train(
        net,
        tmp_path,
        dict(by_epoch=False, max_iters=1),
        custom_hooks=[dict(type='SignalHook')],
    )
    assert [signal.getsignal(n) for n in (*SIGNALS, signal.SIGCHLD)] == before


def test_a_training_in_a_thread_goes_without(tmp_path):
    net, seen = iteration_run.model()
    thread = threading.Thread(
        target=iteration_run.train,
        args=(net, tmp_path, dict(by_epoch=False, max_iters=2)),
        kwargs=dict(custom_hooks=[dict(type='SignalHook')]),
    )
    thread.start()
    thread.join()
    assert seen == [0, 1]


def test_epochs_go_on_at_their_beginning(tmp_path):
    status, seen = train(
        tmp_path,
        dict(number=signal.SIGUSR1, iteration=5),  # the second one of the second epoch
        train_cfg=iteration_run.BY_EPOCH,
    )
    assert (status, seen) == (138, [0, 1, 2, 3, 4])
    meta = torch.load(tmp_path / 'iter_5.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 5)


def validation(folder):
    from mmengine.evaluator import BaseMetric

    class Nothing(BaseMetric):
        def process(self, data_batch, data_samples):
            self.results.append(0)

        def compute_metrics(self, results):
            return dict(zero=0)

    return dict(
        val_dataloader=dict(
            dataset=iteration_run.Images(),
            batch_size=1,
            num_workers=0,
            collate_fn=dict(type='pseudo_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=[Nothing()],
    )


def test_in_a_validation_the_averages_go_back(tmp_path, monkeypatch):
    """What is saved is what a checkpoint without the validation holds."""
    monkeypatch.setattr(
        'mmseg_more.models.MoRe.predict', lambda self, inputs, samples: samples
    )
    ema = dict(type='EMAHook', momentum=0.5)
    cfg = dict(by_epoch=False, max_iters=6, val_interval=3)
    torch.manual_seed(0)
    net, _ = iteration_run.model()
    start_weights = {key: value.clone() for key, value in net.state_dict().items()}
    iteration_run.train(
        net,
        tmp_path / 'whole',
        dict(by_epoch=False, max_iters=3),
        custom_hooks=[ema],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False)),
    )

    build = iteration_run.model

    def same_start():
        net, seen = build()
        net.load_state_dict(start_weights)
        return net, seen

    monkeypatch.setattr(iteration_run, 'model', same_start)
    status, seen = train(
        tmp_path / 'ended',
        dict(number=signal.SIGTERM, in_validation=True),
        hooks=[ema],
        train_cfg=cfg,
        **validation(tmp_path),
    )
    assert status == 143
    whole = torch.load(tmp_path / 'whole' / 'iter_3.pth')
    ended = torch.load(tmp_path / 'ended' / 'iter_3.pth')
    for section in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(
            ended[section], whole[section], atol=0, rtol=0, equal_nan=True
        )
    assert any(
        not torch.equal(whole['state_dict'][key], whole['ema_state_dict']['module.' + key])
        for key in whole['state_dict']
    )


def test_a_validation_that_was_ended_is_done_when_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        'mmseg_more.models.MoRe.predict', lambda self, inputs, samples: samples
    )
    validated = []

    class Validations(ending_run.Hook):
        def after_val_epoch(self, runner, metrics=None):
            validated.append(runner.iter)

    options = dict(
        train_cfg=dict(type='ResumableTrainLoop', max_iters=4, val_interval=2),
        **validation(tmp_path),
    )
    folder = tmp_path / 'run'
    train(
        folder,
        dict(number=signal.SIGTERM, in_validation=True),
        hooks=[Validations()],
        **options,
    )
    assert validated == [] and (folder / 'iter_2.pth').is_file()
    net, seen = iteration_run.model()
    iteration_run.train(net, folder, resume=True, custom_hooks=[Validations()], **options)
    assert (seen, validated) == ([2, 3], [2, 4])


@pytest.mark.parametrize('epochs', [False, True])
def test_what_follows_a_training_ends_at_once(tmp_path, epochs, capfd):
    """As PseudoLabelHook does, which makes masks for hours."""

    class Masks(ending_run.Hook):
        priority = 'LOW'
        made = 0

        def after_train(self, runner):
            for self.made in range(1, 4):
                if self.made == 2:
                    os.kill(os.getpid(), signal.SIGTERM)

    masks = Masks()
    cfg = dict(by_epoch=True, max_epochs=1) if epochs else dict(by_epoch=False, max_iters=2)
    status, seen = train(tmp_path, hooks=[masks], train_cfg=cfg)
    assert (status, masks.made) == (143, 2)
    assert seen
    assert 'SIGTERM: ending. The training is done' in capfd.readouterr().err


def test_the_command_that_goes_on(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'a b.py', '--work-dir', 'x'])
    assert resume_command() == "python tools/train.py 'a b.py' --work-dir x --resume"
    monkeypatch.setattr(sys, 'argv', shlex.split('tools/train.py --resume a.py'))
    assert resume_command() == 'python tools/train.py --resume a.py'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        CONFIG.replace("'tiny_run']", "'tiny_run', 'ending_run']").replace(
            'max_iters=4, val_interval=4', 'max_iters=100000, val_interval=100000'
        )
        + "custom_hooks = [dict(type='SignalHook'), dict(type='Slow')]\n"
        'train_dataloader.update(num_workers=2)\n'
        "log_level = 'WARNING'\n"
    )
    return path


def without_handover(said):
    """What a process has said, but for Python's thread that hands tensors of a loader's
    worker over: it cannot be told that the other side has been ended by the signal too."""
    thread = (
        r'Traceback [^\n]*\n  File "[^"]*resource_sharer.py"(?:.*\n  .*)*\n\w+Error.*\n'
    )
    return re.sub(thread, '', said)


def test_a_worker_that_dies_after_the_end_is_not_missed(tmp_path, monkeypatch):
    """Until the process has ended; a next training hears of its own workers again."""
    monkeypatch.setattr(signal_hook, '_SECONDS_TO_HEAR', 0)

    def of_loaders(number, frame):
        raise RuntimeError('a worker has died')

    hook = signal_hook.SignalHook()
    runner = SimpleNamespace(iter=0, train_loop=None)
    listeners = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGCHLD)}
    signal.signal(signal.SIGCHLD, of_loaders)
    try:
        for _ in range(2):
            hook.before_train(runner)
            with pytest.raises(RuntimeError, match='has died'):
                signal.getsignal(signal.SIGCHLD)(signal.SIGCHLD, None)
            hook._receive(signal.SIGTERM, None)
            hook._stop_listening()
            signal.getsignal(signal.SIGCHLD)(signal.SIGCHLD, None)
            assert signal.getsignal(signal.SIGTERM) == listeners[signal.SIGTERM]
    finally:
        for number, handler in listeners.items():
            signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.parametrize('number', SIGNALS, ids=NAMES)
def test_all_of_a_job_gets_the_signal(tmp_path, config, number):
    """As Slurm and a terminal send it: the workers of the loader die of it."""
    run = start([ending_run.ROOT / 'tools/train.py', config, '--work-dir', 'w'], tmp_path)
    wait_for(lambda: progress(tmp_path / 'w')[1] > 3 or run.poll() is not None)
    os.killpg(run.pid, number)
    assert run.wait(300) == 128 + number
    said = without_handover((tmp_path / 'out').read_text())
    assert 'Traceback' not in said and 'rror' not in said, said
    assert f'{number.name}: ended after iteration' in said
    wait_for(lambda: not group_members(run.pid))
    last = tmp_path / (tmp_path / 'w/last_checkpoint').read_text()
    assert damage(last) is None
    assert torch.load(last)['meta']['iter'] == progress(tmp_path / 'w')[1]


@pytest.mark.slow
@pytest.mark.parametrize('number', SIGNALS[:2], ids=NAMES[:2])
def test_one_of_two_processes_gets_the_signal(tmp_path, config, number):
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2']
    train = [ending_run.ROOT / 'tools/train.py', config, '--work-dir', 'w']
    options = ['--launcher', 'pytorch', '--cfg-options', 'train_dataloader.num_workers=0']
    run = start([*launcher, *train, *options], tmp_path)
    wait_for(lambda: progress(tmp_path / 'w', 1)[1] > 3 or run.poll() is not None)
    os.kill(progress(tmp_path / 'w', 1)[0], number)
    assert run.wait(300) != 0
    said = (tmp_path / 'out').read_text()
    done = [progress(tmp_path / 'w', rank)[1] for rank in range(2)]
    assert done[0] == done[1], said
    assert torch.load(tmp_path / 'w' / f'iter_{done[0]}.pth')['meta']['iter'] == done[0]
    assert 'torchrun --nproc_per_node 2' in said
    assert f'exitcode  : {128 + number}' in said


def test_a_training_that_failed_listens_no_more(tmp_path):
    class Fail(ending_run.Hook):
        def after_train_iter(self, runner, *args, **kwargs):
            raise RuntimeError('out of memory')

    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append('mine'))
    try:
        with pytest.raises(RuntimeError, match='out of memory'):
            iteration_run.train(
                iteration_run.model()[0],
                tmp_path,
                default_hooks=dict(signals=dict(type='SignalHook')),
                custom_hooks=[Fail()],
            )
        signal.raise_signal(signal.SIGTERM)
    finally:
        last = signal.signal(signal.SIGTERM, before)
    assert received == ['mine'] and last.__name__ == '<lambda>'
