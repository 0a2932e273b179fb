"""Runs that must not start."""

import importlib
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner import BaseLoop, Runner
from torch import nn

import iteration_run
from mmseg_more.text_vectors import TextVectors, write_text_vectors
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


TRAINING = mock.Mock(spec=BaseLoop)
"""A loop that the runner has built, since it trains."""


def load(hook, model, checkpoint, loop=TRAINING):
    hook.after_load_checkpoint(SimpleNamespace(model=model, _train_loop=loop), checkpoint)


def load_for_a_test(hook, model, checkpoint):
    load(hook, model, checkpoint, loop=dict(type='IterBasedTrainLoop'))


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


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_test_needs_all_weights(hook, prefix):
    state = {prefix + key: value for key, value in Net().state_dict().items()}
    state['more'] = torch.ones(1)  # of which the network has no use
    load_for_a_test(hook, Net(), dict(state_dict=state, meta=dict()))
    del state[prefix + 'embed.bias'], state[prefix + 'classifier.weight']
    with pytest.raises(ValueError) as error:
        load_for_a_test(hook, Net(), state)
    message = str(error.value)
    assert 'lacks 2 weights of the model' in message
    assert "'embed.bias', 'classifier.weight'" in message
    assert 'use the config it was trained with' in message and 'may_lack' in message


def test_weights_that_a_test_does_without():
    state = Net().state_dict()
    del state['aux_classifier.weight'], state['embed.bias']
    hook = HOOKS.build(dict(type='SanityCheckHook', may_lack=['aux_', 'embed.bias']))
    load_for_a_test(hook, Net(), state)
    hook = HOOKS.build(dict(type='SanityCheckHook', may_lack=['aux_', 'bed.bias']))
    with pytest.raises(ValueError, match="lacks 1 weights of the model.*'embed.bias'"):
        load_for_a_test(hook, Net(), state)
    with pytest.raises(ValueError, match="must be a list of beginnings of names, got 'a'"):
        HOOKS.build(dict(type='SanityCheckHook', may_lack='a'))


def test_counters_of_batch_norm_may_be_missing(hook):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = model.state_dict()
    del state['1.num_batches_tracked']
    load_for_a_test(hook, model, state)
    del state['1.running_var']
    with pytest.raises(ValueError, match="lacks 1 weights.*'1.running_var'"):
        load_for_a_test(hook, model, state)


class Renamed(nn.Linear):
    """Reads what an older version has written under another name."""

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if local_metadata.get('version', 1) < 2:
            state_dict[f'{prefix}weight'] = state_dict.pop(f'{prefix}kernel')
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


@pytest.mark.parametrize('version', [1, 2])
def test_weights_that_the_model_renames_are_not_missing(hook, version):
    model, state = nn.Sequential(Renamed(2, 3)), Renamed(2, 3).state_dict(prefix='0.')
    state._metadata['0'] = dict(version=version)
    state['0.kernel' if version == 1 else '0.weight'] = state.pop('0.weight')
    load_for_a_test(hook, model, state)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_weights_that_are_not_numbers(hook, value):
    state = Net().state_dict()
    state['classifier.weight'][1, 2] = value
    load(hook, Net(), state)  # a training is another matter
    with pytest.raises(ValueError, match="1 weights are not numbers.*'classifier.weight'"):
        load_for_a_test(hook, Net(), state)


def test_buffers_may_be_infinite(hook):
    model = Net()
    model.register_buffer('mask', torch.tensor([0.0, -float('inf')]))
    model.register_buffer('count', torch.tensor(3))
    load_for_a_test(hook, model, model.state_dict())
    model.mask[0] = float('nan')
    with pytest.raises(ValueError, match="not numbers.*'mask'"):
        load_for_a_test(hook, model, model.state_dict())


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
    state = Net().state_dict()
    del state['embed.bias']
    torch.save(dict(state_dict=state), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match="lacks 1 weights of the model.*'embed.bias'"):
        runner.load_or_resume()


def test_lora_without_a_place(hook):
    """The layers themselves have other names then: they would be random."""
    backbone = dict(tiny_config().backbone, lora=dict(rank=2))
    lora, plain = tiny_model(backbone=backbone), tiny_model()
    with pytest.raises(ValueError, match='backbone with LoRA, the model has none: give'):
        load(hook, plain, dict(state_dict=lora.state_dict()))
    load(hook, lora, dict(state_dict=plain.state_dict()))
    lora.backbone.merge_lora()
    load_for_a_test(hook, plain, dict(state_dict=lora.state_dict()))


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
        optim_wrapper=None,
        _train_loop=TRAINING,
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


def test_a_cpu_that_is_faster_in_bfloat16(work_dir, monkeypatch):
    module = importlib.import_module('mmseg_more.engine.hooks.sanity_check_hook')
    sizes = []
    monkeypatch.setattr(module, 'amp_hint', lambda *args: sizes.append(args[2]) or 'faster')
    runner = runner_of(tiny_model())
    HOOKS.build(dict(type='SanityCheckHook')).before_train(runner)
    runner.logger.info.assert_called_once_with('faster')
    assert sizes == [(448, 448)]
    HOOKS.build(dict(type='SanityCheckHook')).before_train(runner_of(Net()))
    assert len(sizes) == 1


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


def test_text_vectors_of_other_classes(work_dir):
    vectors = np.ones((3, 16), 'float32')
    found = TextVectors(
        np.array(['cat', 'cow', 'pig']), vectors, np.array(['sky']), vectors[:1]
    )
    write_text_vectors('text.npz', found)
    hook = HOOKS.build(dict(type='SanityCheckHook', num_images=0))
    model = tiny_model(text_classifier=dict(file='text.npz'))
    with pytest.raises(ValueError, match='the file alone has cow, pig; the data .* dog'):
        hook.before_train(runner_of(model, Labelled([[0], [1]])))
    hook.before_train(runner_of(tiny_model(), Labelled([[0], [1]])))
