"""Trainings of a very small MoRe on six images of noise; no mask exists."""

import json
import random
import re
from unittest import mock

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from health_run import figures_of, health_config, measure_rank
from mask_run import make_data
from mmseg_more.evaluation import HealthHook
from mmseg_more.evaluation.health.figures import (
    AGREEMENTS,
    CONSISTENCIES,
    HealthCounts,
    HealthFigures,
)
from mmseg_more.evaluation.health.findings import DIES, FLOODS, Finding, HealthMonitor

from mmseg.registry import HOOKS, MODELS


@HOOKS.register_module()
class FloodHook(Hook):
    """Fakes what HealthHook sees: from an iteration on 'disk' floods."""

    priority = 'VERY_HIGH'

    def __init__(self, begin, end=10**9):
        self.begin, self.end = begin, end

    def before_train(self, runner):
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, HealthHook))
        measure = hook._measure

        def fake(model):
            figures = measure(model)
            floods = self.begin <= runner.iter + 1 < self.end
            return figures._replace(
                images=torch.tensor([9.0, 9.0]),
                sure=torch.tensor([0.5, 0.5]),
                coverage=torch.tensor([0.8 if floods else 0.2, 0.2]),
                lam=torch.tensor([0.9 if floods else 0.2, 0.2]),
                seg=torch.tensor([0.3, 0.2]),
                border=torch.tensor([0.7 if floods else 0.1, 0.1]),
                lam_border=torch.tensor([0.7 if floods else 0.1, 0.1]),
            )

        hook._measure = fake


@HOOKS.register_module()
class ModeHook(Hook):
    """Keeps one module in evaluation mode; writes down modes and random states."""

    priority = 'VERY_LOW'
    seen = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.graph.eval()
        self.random = self._states()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        type(self).seen = (runner.model.training, runner.model.graph.training)

    @staticmethod
    def _states():
        return random.getstate(), np.random.get_state(), torch.get_rng_state()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return make_data(tmp_path_factory.mktemp('health') / 'data')


@pytest.fixture(autouse=True)
def default_scope(one_thread):
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def build(cfg):
    with mock.patch.object(Config, 'pretty_text', ''):  # slow, and not looked at
        return Runner.from_cfg(cfg)


def train(data, work_dir, health=None, **options):
    health = {'type': 'HealthHook', **(health or {})}
    runner = build(health_config(data, work_dir, health, **options))
    with mock.patch.object(Config, 'pretty_text', ''):
        runner.train()
    return runner


def log_of(work_dir):
    return '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))


def scalars_of(work_dir):
    lines = [
        json.loads(line)
        for path in work_dir.glob('*/vis_data/scalars.json')
        for line in path.read_text().splitlines()
    ]
    return {line['step']: line for line in lines if 'health/score' in line}


@pytest.mark.slow
def test_the_training_stays_the_same_bit_for_bit(data, tmp_path):
    weights = []
    for i, health in enumerate((None, dict(type='HealthHook', interval=1, num_images=4))):
        cfg = health_config(
            data, tmp_path / str(i), health, **{'default_hooks.checkpoint.save_best': None}
        )
        runner = build(cfg)
        with mock.patch.object(Config, 'pretty_text', ''):
            runner.train()
        weights.append((runner.model.state_dict(), ModeHook._states()[2]))
    (without, _), (with_hook, _) = weights
    for name, value in without.items():
        assert torch.equal(value, with_hook[name]), name


@pytest.mark.slow
def test_modes_random_states_and_requests_stay(data, tmp_path):
    runner = train(data, tmp_path, hooks=[dict(type='ModeHook')], val_interval=100)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, HealthHook))
    runner.model.localization_request = request = object()
    runner.model.train()
    runner.model.graph.eval()
    before = ModeHook._states()
    draw = hook._dataset.__class__.__getitem__

    def random_item(self, index):
        random.random(), np.random.rand(), torch.rand(1)
        return draw(self, index)

    with mock.patch.object(hook._dataset.__class__, '__getitem__', random_item):
        hook._look(runner, 7)
    after = ModeHook._states()
    assert before[0] == after[0]
    assert np.array_equal(before[1][1], after[1][1]) and before[1][2] == after[1][2]
    assert torch.equal(before[2], after[2])
    assert (runner.model.training, runner.model.graph.training) == (True, False)
    assert runner.model.localization_request is request


@pytest.mark.slow
def test_line_scalars_and_best_checkpoint(data, tmp_path):
    runner = train(data, tmp_path, dict(interval=1, batch_size=4))
    scalars = scalars_of(tmp_path)
    assert sorted(scalars) == [1, 2, 3, 4]
    for line in scalars.values():
        assert 0 <= line['health/score'] <= 100
        assert 0 <= line['health/disk'] <= 1
        assert 0 <= line['health/coverage/disk'] <= 1
        assert not any(key.startswith('health/health') for key in line)
        assert 0 <= line['health/false_alarm/star'] <= 1
        assert 0 <= line['health/flip'] <= 1
    best = max((2, 4), key=lambda step: scalars[step]['health/score'])
    assert (tmp_path / f'best_health_score_iter_{best}.pth').exists()
    log = log_of(tmp_path)
    assert log.count('Health [') == 4  # at 2 and 4 one look serves both
    assert 'Health [4]  score' in log
    assert 'nothing is said of them' in log  # of three images each
    assert runner.message_hub.get_info('health/state')['history'][-1]['iteration'] == 4


@pytest.mark.slow
def test_validation_alone(data, tmp_path):
    cfg = health_config(data, tmp_path, dict(type='HealthHook', num_images=4))
    cfg.default_hooks.checkpoint.save_best = None  # MMEngine's hook wants a training
    runner = build(cfg)
    metrics = runner.val()
    assert 0 <= metrics['health/score'] <= 100
    assert metrics['health/floods'] == metrics['health/dies'] == 0
    assert all(key.count('/') == 1 for key in metrics)
    assert 'health/disk' not in metrics  # the scalars of classes are for the visualizer
    # other weights at the same iteration are looked at anew
    nn.init.normal_(runner.model.classifier.weight)
    assert runner.val()['health/score'] != metrics['health/score']


@pytest.mark.slow
def test_validation_sees_averaged_weights(data, tmp_path):
    """Those of EMAHook, which takes them back in the same hook point."""
    ema = dict(type='EMAHook', momentum=0.5)
    seen = []
    count = HealthHook._count

    def record(self, counts, model, batch):
        seen.append(model.classifier.weight.clone())
        count(self, counts, model, batch)

    with mock.patch.object(HealthHook, '_count', record):
        runner = train(data, tmp_path, dict(interval=2), hooks=[ema], max_iters=2)
    trained = runner.model.classifier.weight
    assert torch.equal(seen[0], trained) and not torch.equal(seen[1], trained)
    log = log_of(tmp_path)
    assert log.count('Health [2]') == 2
    assert len(runner.message_hub.get_info('health/state')['history']) == 1


@pytest.mark.slow
def test_a_flood_is_named_with_its_remedy_and_its_end(data, tmp_path):
    rules = dict(patience=2)
    flood = dict(type='FloodHook', begin=3, end=6)
    options = dict(hooks=[flood], max_iters=8, val_interval=100)
    train(data, tmp_path, dict(interval=1, rules=rules), **options)
    log = log_of(tmp_path)
    warnings = [line for line in log.splitlines() if 'WARNING' in line and 'Health' in line]
    assert len(warnings) == 1
    assert (
        'class "disk" floods: its CAM covers 80 % of the images that it is in and 70 % of '
        'their border, its LAM 90 %, the segmentation 30 %; the CAM covered 20 % 2 '
        'iterations ago.'
    ) in warnings[0]
    assert 'model.pseudo_label.high (now 0.7;' in warnings[0]
    assert 'class "disk" has recovered, it no longer floods since iteration 6' in log
    assert log.count('; disk floods') == 3  # in the lines of iterations 4 to 6
    scalars = scalars_of(tmp_path)
    assert [scalars[step]['health/floods'] for step in range(1, 9)] == [
        0,
        0,
        0,
        1,
        1,
        1,
        0,
        0,
    ]


@pytest.mark.slow
def test_resume_goes_on(data, tmp_path):
    """The check before the resume counts: two in a row are one before and one after."""
    flood, rules = dict(type='FloodHook', begin=2), dict(interval=1, rules=dict(patience=2))
    options = dict(hooks=[flood], val_interval=100)
    train(data, tmp_path / 'a', rules, max_iters=2, **options)
    assert 'floods:' not in log_of(tmp_path / 'a')
    checkpoint = str(tmp_path / 'a' / 'iter_2.pth')
    resumed = dict(resume=True, load_from=checkpoint)
    train(data, tmp_path / 'b', rules, max_iters=4, **options, **resumed)
    log = log_of(tmp_path / 'b')
    assert 'goes on after 2 checks' in log
    assert log.count('"disk" floods:') == 1
    # weights alone are another training
    train(data, tmp_path / 'c', rules, max_iters=1, **options, load_from=checkpoint)
    assert 'goes on after' not in log_of(tmp_path / 'c')


def test_images_are_spread_evenly():
    hook = HealthHook(num_images=4)
    hook._dataset = range(10)
    assert hook._indices() == [0, 2, 5, 7]
    hook._dataset = range(3)
    assert hook._indices() == [0, 1, 2]


def test_images_of_one_size_go_together():
    hook = HealthHook(batch_size=2)
    sizes = [8, 8, 8, 9, 9, 8]
    hook._dataset = [dict(inputs=torch.zeros(3, size, 8)) for size in sizes]
    batches = [[len(x[0]) for x in batch['inputs']] for batch in hook._batches([*range(6)])]
    assert batches == [[8, 8], [8], [9, 9], [8]]


@pytest.mark.slow
def test_images_that_the_training_leaves_out(tmp_path):
    with DefaultScope.overwrite_default_scope('mmseg'):
        data = make_data(tmp_path / 'data')
    (data / 'images' / 'c.png').write_bytes(b'broken')
    runner = train(
        data,
        tmp_path / 'work',
        dict(interval=1),
        **{
            'train_dataloader.dataset.max_broken': 0.5,
            'val_dataloader.dataset.indices': 2,
            'default_hooks.sanity_check.num_images': 0,
        },
    )
    told = 'HealthHook leaves out one of its 6 images: '
    (line,) = (line for line in log_of(tmp_path / 'work').splitlines() if told in line)
    assert line.endswith(
        'c.png (6 bytes) does not decode as an image; replace the file or take it out of '
        'the split'
    )
    assert sorted(scalars_of(tmp_path / 'work')) == [1, 2, 3, 4]
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, HealthHook))
    assert hook.figures.images.tolist() == [3, 2]
    for path in (data / 'images').rglob('*.png'):
        path.write_bytes(b'')
    with pytest.raises(ValueError, match='can read none of its 6 images: .*a.png'):
        hook._look(runner, 5)


def test_scalars_of_classes_are_for_the_visualizer_and_hide_no_figure():
    hook = HealthHook()
    hook._monitor = HealthMonitor(2)
    hook._dataset = mock.Mock(metainfo=dict(classes=('background', 'disk', 'scale')))
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    figures = HealthFigures(
        **dict.fromkeys(HealthFigures._fields[:11], half),
        agreement=dict.fromkeys(AGREEMENTS, half),
        consistency=dict.fromkeys(CONSISTENCIES, half * torch.nan),
        ignored=0.5,
        entropy=0.5,
    )
    hook._measure = lambda model: figures
    runner, metrics = mock.Mock(hooks=[], iter=7), {}
    runner.model.loss_schedule.active.return_value = mock.Mock(need_maps=False, names=())
    hook.after_val_epoch(runner, metrics)
    (scalars,), options = runner.visualizer.add_scalars.call_args
    assert options == dict(step=7)
    # (agreement 1/2 + consistency 0 + labels 1/2) / 3, half of it for the border
    assert scalars['health/disk'] == pytest.approx(1 / 6)
    assert 'health/scale' not in scalars  # not the health of the class of that name
    assert scalars['health/coverage/scale'] == 0.5
    named = ('score', *AGREEMENTS, 'missing', 'false_alarm', 'ignored', 'entropy')
    assert set(metrics) == {f'health/{name}' for name in (*named, FLOODS, DIES)}
    assert metrics['health/score'] == pytest.approx(100 / 6)


@pytest.mark.slow
def test_death_is_named_with_its_remedy(data, tmp_path):
    runner = train(data, tmp_path, val_interval=100, max_iters=1)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, HealthHook))
    seen = dict(coverage=0.01, sure=0.0, border=0.0, lam=0.2, seg=0.0)
    hook._tell(runner, runner.model, Finding(1, DIES, False, 5, seen, None, None), 9)
    line = log_of(tmp_path).splitlines()[-1]
    assert 'class "star" dies: its CAM covers 1 % of the images that it is in' in line
    assert 'image labels' in line and 'lower thresholds' in line and 'ago' not in line


@pytest.mark.parametrize(
    'option',
    [
        dict(interval=-1),
        dict(num_images=0),
        dict(batch_size=0),
        dict(split='trainval'),
        dict(scale=1),
        dict(rules=dict(patience=0)),
        dict(rules=dict(floods=1)),
    ],
)
def test_arguments_are_checked(option):
    (name,) = option.get('rules', option)
    with pytest.raises(ValueError, match=name):
        HealthHook(**option)


class Other(BaseModel):
    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.linear = nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


def test_other_models_are_refused(data, tmp_path):
    MODELS.register_module(module=Other, name='HealthOther', force=True)
    cfg = health_config(data, tmp_path, dict(type='HealthHook'), load_from=None)
    cfg.model = dict(type='HealthOther')
    runner = build(cfg)
    with pytest.raises(TypeError, match='model is a Other: remove the hook'):
        HealthHook().before_train(runner)


def test_a_training_without_validation_needs_an_interval(data, tmp_path):
    cfg = health_config(data, tmp_path, dict(type='HealthHook'))
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        cfg[key] = None
    runner = build(cfg)
    with pytest.raises(ValueError, match='set its interval'):
        HealthHook().before_train(runner)
    HealthHook(interval=5).before_train(runner)


def test_a_config_without_test_pipeline_is_refused(data, tmp_path):
    runner = build(health_config(data, tmp_path, dict(type='HealthHook')))
    runner.cfg.test_dataloader = None
    with pytest.raises(ValueError, match='HealthHook has no images.*`test_dataloader`'):
        HealthHook().before_train(runner)


def test_images_without_labels_are_refused(data, tmp_path):
    cfg = health_config(data, tmp_path, dict(type='HealthHook'))
    cfg.val_dataloader.dataset.label_file = ''
    with pytest.raises(ValueError, match='has no labels'):
        HealthHook(split='val').before_train(build(cfg))


@pytest.mark.slow
def test_several_processes_share_the_images(data, tmp_path):
    counted = []
    add = HealthCounts.add
    with mock.patch.object(
        HealthCounts, 'add', lambda *args: (counted.append(1), add(*args))[1]
    ):
        alone = figures_of(data, str(tmp_path / 'alone'))
    assert len(counted) == 5
    mp.spawn(measure_rank, args=(2, data, str(tmp_path)), nprocs=2)
    for rank in range(2):
        shared = torch.load(tmp_path / f'{rank}.pt')
        torch.testing.assert_close(shared, alone, equal_nan=True)


@pytest.mark.slow
def test_the_documented_examples_run(data, tmp_path, repo_root):
    """Also that the scalars of the table are all written, to TensorBoard too."""
    page = (repo_root / 'docs' / 'quality.md').read_text()
    section = page.split('## Health without masks')[1].split('\n## ')[0]
    settings = {}
    for block in re.findall(r'```python\n(.*?)```', section, re.DOTALL):
        exec(block, settings)  # the last one gives all arguments of the hook
    (hook,) = settings['custom_hooks']
    cfg = health_config(data, tmp_path, dict(hook, interval=1), max_iters=2)
    cfg.merge_from_dict({key: settings[key] for key in ('default_hooks', 'visualizer')})
    runner = build(cfg)
    with mock.patch.object(Config, 'pretty_text', ''):
        runner.train()
    assert list(tmp_path.glob('best_health_score_iter_2.pth'))
    named = {
        name.replace('NAME', 'star') for name in re.findall(r'`(health/[\w/]+)`', section)
    }
    assert len(named) > 15
    assert named <= set(scalars_of(tmp_path)[1])
    runner.visualizer.close()
    (events,) = {path.parent for path in tmp_path.rglob('events.out*')}
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert named <= set(accumulator.Tags()['scalars'])
