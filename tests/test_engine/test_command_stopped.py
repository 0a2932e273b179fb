"""Commands that are stopped."""

import os
import signal

import pytest
from mmengine.registry import DefaultScope

import mask_run
from ending_run import ROOT, group_members, progress, start, wait_for
from mmseg_more.engine.command_line import ends_in_one_line


@pytest.fixture
def interrupt_is_kept():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    'error, status, said',
    [
        (KeyboardInterrupt(), 130, '\nstopped by Ctrl-C\n'),
        (FloatingPointError('loss_seg was nan'), 1, 'error: loss_seg was nan\n'),
    ],
)
def test_one_line_and_a_status(capsys, interrupt_is_kept, error, status, said):
    with pytest.raises(SystemExit) as stop:
        with ends_in_one_line():
            raise error
    assert stop.value.code == status
    assert capsys.readouterr().err == said


def test_everything_else_passes():
    with ends_in_one_line():
        pass
    for error in (ValueError('a'), SystemExit(143)):
        with pytest.raises(type(error)) as passed:
            with ends_in_one_line():
                raise error
        assert passed.value is error


@pytest.mark.slow
def test_interrupt_of_a_mask_run(tmp_path):
    """Ctrl-C reaches the workers of the loader and of the CRF too; none stays."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        images = {f'image{number}': ((24, 32), ['disk']) for number in range(200)}
        data = mask_run.make_data(tmp_path / 'data', images)
        cfg = mask_run.config(data)
    cfg.custom_imports = dict(imports=['mmseg_more', 'ending_run'])
    cfg.custom_hooks = [dict(type='Slow', seconds=0.5)]
    cfg.test_dataloader.num_workers = 2
    cfg.dump(tmp_path / 'config.py')
    masks = ['--pseudo-labels', 'masks', '--crf', '--crf-workers', '2']
    weights = data / 'weights.pth'
    run = start(
        [ROOT / 'tools/test.py', 'config.py', weights, *masks, '--work-dir', 'w'], tmp_path
    )
    wait_for(lambda: progress(tmp_path / 'w')[1] > 1 or run.poll() is not None)
    assert len(group_members(run.pid)) > 4
    os.killpg(run.pid, signal.SIGINT)
    status = run.wait(300)
    said = (tmp_path / 'out').read_text()
    assert status == 130, said
    assert 'stopped by Ctrl-C' in said and 'Traceback' not in said
    wait_for(lambda: not group_members(run.pid))
