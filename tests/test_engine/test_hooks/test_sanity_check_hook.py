"""Runs that must not start."""

from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner import Runner
from torch import nn

import iteration_run
from tiny_model import tiny_config, tiny_model

from mmseg.registry import HOOKS, MODELS


class Net(BaseModel):
    def __init__(self, num_classes=3, dims=4):
        super().__init__()
        self.embed = nn.Linear(5, dims)
        self.classifier = nn.Conv2d(dims, num_classes, 1, bias=False)
        self.aux_classifier = nn.Conv2d(dims, num_classes, 1, bias=False)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


@pytest.fixture
def hook():
    return HOOKS.build(dict(type='SanityCheckHook'))


def load(hook, model, checkpoint):
    hook.after_load_checkpoint(SimpleNamespace(model=model), checkpoint)


def test_config_is_checked_before_the_run(hook):
    runner = SimpleNamespace(cfg=Config(dict(train_cgf=dict())))
    with pytest.raises(ValueError, match="did you mean 'train_cfg'"):
        hook.before_run(runner)
    hook.before_run(SimpleNamespace(cfg=Config(dict(train_cfg=dict()))))


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_checkpoint_that_fits(hook, prefix):
    state = {prefix + key: value for key, value in Net().state_dict().items()}
    load(hook, Net(), dict(state_dict=state, meta=dict()))
    load(hook, Net(), state)
    state.pop(prefix + 'embed.bias')
    state['more'] = torch.ones(1)
    load(hook, Net(), state)


def test_another_number_of_classes(hook):
    with pytest.raises(ValueError) as error:
        load(hook, Net(num_classes=20), dict(state_dict=Net(num_classes=80).state_dict()))
    message = str(error.value)
    assert 'trained for K=80 classes, the model is built for K=20' in message
    assert 'set model.num_classes=80' in message
    assert 'classifier.weight is (80, 4, 1, 1) in the checkpoint, (20, 4, 1, 1)' in message


def test_another_width_is_not_another_number_of_classes(hook):
    with pytest.raises(ValueError) as error:
        load(hook, Net(dims=6), dict(state_dict=Net(dims=8).state_dict()))
    message = str(error.value)
    assert 'K=' not in message and 'embed.weight is (8, 5) in the checkpoint' in message
    assert 'and 1 more' in message


def test_weights_of_something_else(hook):
    with pytest.raises(
        ValueError, match='it has weights, a, ..., the model embed.weight'
    ) as error:
        load(hook, Net(), dict(weights=dict(), a=1))
    assert 'official2mmseg.py' in str(error.value)


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_official_checkpoint(hook, prefix):
    """Whose classifiers have the names and shapes of ours."""
    state = {prefix + key: value for key, value in Net().state_dict().items()}
    state[f'{prefix}encoder.blocks.0.norm1.bias'] = torch.zeros(4)
    with pytest.raises(
        ValueError, match='official MoRe code: convert it by .*official2mmseg'
    ):
        load(hook, Net(), dict(state_dict=state))


class TTA(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


def test_model_for_test_time_augmentation(hook):
    model = TTA(module=Net(num_classes=2))
    load(hook, model, dict(state_dict=Net(num_classes=2).state_dict()))
    with pytest.raises(ValueError, match='K=3'):
        load(hook, model, dict(state_dict=Net(num_classes=3).state_dict()))


def test_in_a_runner(tmp_path):
    """As MMEngine calls it: the run stops before the weights are touched."""
    torch.save(dict(state_dict=Net(num_classes=7).state_dict()), tmp_path / 'other.pth')
    model = Net()
    before = model.classifier.weight.detach().clone()
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        default_scope='mmseg',
        load_from=str(tmp_path / 'other.pth'),
        experiment_name='sanity',
        custom_hooks=[dict(type='SanityCheckHook')],
        log_level='ERROR',
    )
    with pytest.raises(ValueError, match='K=7.*K=3'):
        runner.load_or_resume()
    torch.testing.assert_close(model.classifier.weight, before)


WARNING = 'THIS TRAINING STARTS FROM RANDOM WEIGHTS'


@pytest.fixture
def work_dir(tmp_path, monkeypatch):
    """The current folder, in which `warned` has its work folder."""
    monkeypatch.chdir(tmp_path)


def runner_of(model, dataset=()):
    return SimpleNamespace(
        model=model,
        cfg=Config(),
        logger=mock.Mock(),
        work_dir='.',
        hooks=[],
        seed=0,
        train_dataloader=SimpleNamespace(dataset=dataset),
    )


def warned(model, **kwargs):
    """What the hook says at the start of a training."""
    hook = HOOKS.build(dict(type='SanityCheckHook', **kwargs.pop('hook', {})))
    runner = runner_of(model)
    if 'checkpoint' in kwargs:
        hook.after_load_checkpoint(runner, kwargs['checkpoint'])
    hook.before_train(runner)
    return [call.args[0] for call in runner.logger.warning.call_args_list]


def test_random_weights_are_not_passed_over(work_dir):
    (message,) = warned(tiny_model())
    assert WARNING in message and len(message.splitlines()) > 5
    assert 'model.pretrained=FILE' in message and 'from_scratch=True' in message


def test_random_weights_that_are_meant(work_dir):
    assert not warned(tiny_model(), hook=dict(from_scratch=True))
    assert not warned(Net())  # MMEngine's and MMSegmentation's models have theirs


def test_weights_that_come_from_a_file(work_dir):
    model = MODELS.build(tiny_config(pretrained='vit.pth'))
    assert not warned(model)
    model = tiny_model()
    assert not warned(model, checkpoint=dict(state_dict=model.state_dict()))


def test_random_weights_in_a_runner(tmp_path):
    """Nothing is loaded where `resume=True` finds no checkpoint."""
    net, _ = iteration_run.model()
    log = iteration_run.train(
        net,
        tmp_path,
        dict(by_epoch=False, max_iters=1),
        default_hooks=dict(sanity_check=dict(type='SanityCheckHook')),
        resume=True,
    ).logger
    (file,) = tmp_path.glob('*/*.log')
    assert log and WARNING in file.read_text()


class Labelled(list):
    """Image labels of a data set, and one file that is not there."""

    metainfo = dict(classes=('background', 'cat', 'dog'))

    def get_data_info(self, index):
        return dict(gt_label=self[index], img_path='no/such.jpg')


def test_data_are_looked_at_before_training(work_dir):
    def start(labels, **options):
        hook = HOOKS.build(dict(type='SanityCheckHook', from_scratch=True, **options))
        hook.before_train(runner_of(Net(), Labelled(labels)))

    with pytest.raises(ValueError, match='no training image shows .*dog'):
        start([[0]])
    with pytest.raises(ValueError, match='1 of 1 training images .*no/such.jpg'):
        start([[0]], classes_without_images=True)
    start([[0]], classes_without_images=True, num_images=0)
    start([[0], [1]], num_images=0)
    with pytest.raises(ValueError, match='num_images must be at least 0'):
        start([], num_images=-1)


@pytest.mark.parametrize('key', ['low', 'cam_low', 'seg_low', 'bkg'])
def test_thresholds_out_of_order_never_start(key):
    """Those of all label maps; the model is built before anything else."""
    pseudo_label = dict(tiny_config().pseudo_label, **{key: 1.5})
    with pytest.raises(ValueError, match=f'pseudo_label: .*{key}.* must be ordered'):
        MODELS.build(tiny_config(pseudo_label=pseudo_label))
