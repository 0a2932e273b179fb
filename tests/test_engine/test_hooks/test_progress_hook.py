"""Lines of the log that say how far a validation is."""

from types import SimpleNamespace

import pytest

from mmseg_more.engine.hooks import progress_hook

from mmseg.registry import HOOKS


class Clock:
    """A clock that goes on by some seconds whenever it is read."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def monotonic(self):
        self.now += self.step
        return self.now


def lines(monkeypatch, mode, batches=6, step=4.0):
    """What the hook logs in an epoch whose batches take ``step`` seconds each."""
    monkeypatch.setattr(progress_hook, 'time', Clock(step))
    said = []
    loop = SimpleNamespace(dataloader=range(batches))
    runner = SimpleNamespace(
        val_loop=loop, test_loop=loop, logger=SimpleNamespace(info=said.append)
    )
    hook = HOOKS.build(dict(type='ProgressHook'))
    getattr(hook, f'before_{mode}_epoch')(runner)
    for index in range(batches):
        getattr(hook, f'after_{mode}_iter')(runner, index, None, None)
    return said


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_a_line_every_ten_seconds(monkeypatch, mode):
    assert lines(monkeypatch, mode) == [f'{mode}: 3 of 6 batches, 0:00:12 left']


def test_nothing_in_a_training_or_of_the_last_batch(monkeypatch):
    assert lines(monkeypatch, 'train') == []
    assert lines(monkeypatch, 'val', batches=3) == []


def test_nothing_where_it_is_quick(monkeypatch):
    assert lines(monkeypatch, 'test', batches=20, step=0.1) == []


def test_refuses_no_time():
    with pytest.raises(ValueError, match='seconds must be above 0, got 0'):
        HOOKS.build(dict(type='ProgressHook', seconds=0))
