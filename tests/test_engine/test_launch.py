"""Command-line arguments into a config."""

import re

import pytest
from mmengine.config import Config
from mmengine.runner import IterBasedTrainLoop

from mmseg_more.engine import launch


def test_work_dir_priority(tmp_path):
    path = tmp_path / 'name.py'
    path.write_text('model = dict()')
    assert launch.load_config(str(path)).work_dir == './work_dirs/name'
    path.write_text("model = dict()\nwork_dir = 'own'")
    assert launch.load_config(str(path)).work_dir == 'own'
    assert launch.load_config(str(path), work_dir='given').work_dir == 'given'


def test_default_hooks_are_switched_off_by_none(tmp_path):
    path = tmp_path / 'name.py'
    path.write_text("default_hooks = dict(logger=None, more=dict(type='X'), other=None)")
    cfg = launch.load_config(str(path), {'default_hooks.more': None})
    # MMEngine leaves out its own hooks that are None, and fails on any other
    assert cfg.default_hooks == dict(logger=None)


@pytest.mark.parametrize(
    'hooks, expected',
    [
        (dict(), dict(type='SanityCheckHook')),
        (dict(default_hooks=None, custom_hooks=[]), dict(type='SanityCheckHook')),
        # by options of the command line alone
        (
            dict(default_hooks=dict(sanity_check=dict(may_lack=['a.']))),
            dict(type='SanityCheckHook', may_lack=['a.']),
        ),
        (
            dict(default_hooks=dict(sanity_check=dict(type='SanityCheckHook', a=1))),
            dict(type='SanityCheckHook', a=1),
        ),
        (dict(custom_hooks=[dict(type='SanityCheckHook', may_lack=['a.'])]), None),
    ],
)
def test_a_test_checks_the_checkpoint_in_any_config(hooks, expected):
    cfg = Config(dict(hooks))
    launch.require_whole_checkpoint(cfg)
    assert (cfg.get('default_hooks') or {}).get('sanity_check') == expected


def test_addresses_are_not_looked_up():
    launch.check_checkpoint('https://example.org/a.pth')
    with pytest.raises(FileNotFoundError, match='Training writes iter_N.pth'):
        launch.check_checkpoint('no/such/folder/a.pth')


@pytest.mark.parametrize('several', [True, False])
@pytest.mark.parametrize('kind', ['IoUMetric', 'LocalizationMetric'])
def test_output_dir_goes_to_the_metrics_that_write(several, kind):
    writer = dict(type=kind)
    other = dict(type='ProtocolMetric')
    cfg = Config(dict(test_evaluator=[other, writer] if several else writer))
    launch.set_output_dir(cfg, 'folder')
    entries = cfg.test_evaluator if several else [cfg.test_evaluator]
    assert [entry.get('output_dir') for entry in entries] == [None, 'folder'][
        -len(entries) :
    ]


def test_output_dir_without_a_metric_that_writes():
    cfg = Config(dict(test_evaluator=[dict(type='MultiLabelMetric', _scope_='mmpretrain')]))
    with pytest.raises(ValueError, match="MultiLabelMetric.*add dict\\(type='IoUMetric'"):
        launch.set_output_dir(cfg, 'folder')


def test_show_predictions():
    cfg = Config(dict(default_hooks=dict(visualization=dict(type='X')), visualizer=dict()))
    launch.show_predictions(cfg, folder='pictures')
    assert cfg.default_hooks.visualization == dict(type='X', draw=True)
    assert cfg.visualizer.save_dir == 'pictures'
    launch.show_predictions(cfg, show=True, wait_time=3.0)
    assert cfg.default_hooks.visualization == dict(
        type='X', draw=True, show=True, wait_time=3.0
    )
    with pytest.raises(ValueError, match='default_hooks'):
        launch.show_predictions(Config(dict()), show=True)


def test_tta_wraps_the_model():
    cfg = Config(
        dict(
            model=dict(type='A'),
            tta_model=dict(type='B'),
            tta_pipeline=[dict(type='C')],
            test_dataloader=dict(dataset=dict(pipeline=[])),
        )
    )
    launch.use_tta(cfg)
    assert cfg.model.to_dict() == dict(type='B', module=dict(type='A'))
    assert cfg.test_dataloader.dataset.pipeline == [dict(type='C')]
    with pytest.raises(ValueError, match='tta_pipeline and tta_model'):
        launch.use_tta(Config(dict(model=dict())))


@pytest.mark.parametrize(
    'train_cfg, expected',
    [
        (dict(type='IterBasedTrainLoop', max_iters=3), 'ResumableTrainLoop'),
        (dict(type=IterBasedTrainLoop, max_iters=3), 'ResumableTrainLoop'),
        (dict(by_epoch=False, max_iters=3), 'ResumableTrainLoop'),
        (dict(type='mmengine.IterBasedTrainLoop', max_iters=3), None),
        (dict(type='EpochBasedTrainLoop', max_epochs=3), None),
        (dict(by_epoch=True, max_epochs=3), None),
    ],
)
def test_the_loop_of_a_config_of_ones_own(train_cfg, expected):
    cfg = Config(dict(train_cfg=train_cfg))
    launch.use_resumable_loop(cfg)
    if expected is None:
        assert cfg.train_cfg == train_cfg
    else:
        assert cfg.train_cfg == dict(type=expected, max_iters=3)
    without = Config(dict(model=dict()))
    launch.use_resumable_loop(without)
    assert 'train_cfg' not in without


@pytest.mark.parametrize(
    'resume, own, load_from, kept, line',
    [
        (True, True, 'elsewhere/a.pth', False, 'load_from=.* is ignored'),
        (True, True, 'work/iter_2.pth', True, 'Resumed is load_from=.*; the latest is'),
        (True, False, 'elsewhere/a.pth', True, 'no checkpoint yet'),
        (False, True, 'elsewhere/a.pth', True, None),
        (True, True, None, False, None),
    ],
)
def test_which_checkpoint_is_resumed(tmp_path, resume, own, load_from, kept, line):
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    if own:
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_4.pth'))
    given = load_from and str(tmp_path / load_from)
    cfg = Config(dict(work_dir=str(work_dir), resume=resume, load_from=given))
    said = launch.choose_resumed(cfg)
    assert cfg.load_from == (given if kept else None)
    assert re.search(line, said) if line else said is None
