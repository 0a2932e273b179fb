"""Command-line arguments into a config."""

import pytest
from mmengine.config import Config

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
def test_output_dir_goes_to_the_metrics_that_write(several):
    writer = dict(type='IoUMetric', iou_metrics=['mIoU'])
    other = dict(type='LocalizationMetric')
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
