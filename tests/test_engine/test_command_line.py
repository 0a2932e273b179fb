"""A user's mistake is one line; a fault of the program is a traceback."""

import argparse
import errno
import warnings

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmseg_more.datasets.image_labels import read_label_file
from mmseg_more.datasets.image_level_dataset import voc_palette
from mmseg_more.engine.command_line import (
    TRACEBACK,
    CommandParser,
    PixelLimit,
    add_config_options,
    command,
    mistake,
    pixel_limit,
)
from mmseg_more.evaluation.sample import read_field

from mmseg.registry import DATASETS, MODELS


class Files(torch.utils.data.Dataset):
    """Reads one label file in a worker."""

    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return read_label_file(self.path) or voc_palette('no number')


@MODELS.register_module()
class SomeModel(BaseModel):
    """Never called."""

    def __init__(self):
        super().__init__()
        self.part = torch.nn.Linear(1, 1)

    def forward(self, **kwargs):
        raise NotImplementedError


@DATASETS.register_module()
class SomeImages(torch.utils.data.Dataset):
    """Never read."""

    def __len__(self):
        return 4


@DATASETS.register_module()
class Unchecked(SomeImages):
    """Calls the package in a way that it does not check."""

    def __init__(self):
        voc_palette('no number')


LOADER = dict(
    batch_size=2, dataset=dict(type='SomeImages'), sampler=dict(type='DefaultSampler')
)


def raised(function, *arguments):
    with pytest.raises(Exception) as error:
        function(*arguments)
    return error.value


@pytest.fixture
def refuse(tmp_path):
    """A command that this package refuses."""
    return command(lambda: read_label_file(tmp_path / 'labels.txt'))


def test_a_mistake_is_one_line(refuse, capsys):
    with pytest.raises(SystemExit) as stop:
        refuse()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: the label file') and 'does not exist' in line


def test_the_traceback_by_the_environment_and_in_the_log(
    refuse, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv(TRACEBACK, '1')
    MMLogger.get_instance(tmp_path.name, log_file=str(tmp_path / 'run.log'))
    with pytest.raises(SystemExit):
        refuse()
    printed = capsys.readouterr().err
    assert 'Traceback' in printed and printed.splitlines()[-1].startswith('error: ')
    assert 'Traceback' in (tmp_path / 'run.log').read_text()


def test_a_missing_field_is_a_mistake():
    assert mistake(raised(read_field, {}, 'gt_sem_seg')).startswith(
        '"gt_sem_seg" is missing on the data sample of an image'
    )
    # one that nobody raised on purpose
    assert mistake(raised({}.__getitem__, 'gt_sem_seg')) is None


def test_warnings_of_others_about_themselves_are_not_shown(recwarn):
    def warn():
        warnings.warn('pkg_resources is deprecated as an API. See ...', stacklevel=2)
        warnings.warn('a warning of ours', stacklevel=2)

    command(warn)()
    assert [str(warning.message) for warning in recwarn] == ['a warning of ours']


def test_faults_of_the_program_are_not_caught():
    def divide():
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        command(divide)()
    # one that nobody raised on purpose, and one that torch raised
    assert mistake(raised(voc_palette, 'no number')) is None
    assert mistake(raised(torch.distributions.Normal, 0.0, -1.0)) is None


def test_files_are_named_with_a_remedy(tmp_path):
    (tmp_path / 'file').touch()
    message = mistake(raised((tmp_path / 'file' / 'below').mkdir))
    assert str(tmp_path / 'file') in message and 'a file stands where a folder' in message
    # what write() raises has no name
    message = mistake(OSError(errno.ENOSPC, 'No space left on device'))
    assert message == (
        'No space left on device: make room, or choose a folder on another disk'
    )
    assert mistake(OSError('something else')) is None


def test_what_the_registry_refuses():
    error = raised(MODELS.build, dict(type='NoSuchModel'))
    assert mistake(error) == (
        'the config does not fit: NoSuchModel is not in the mmseg::model registry'
    )
    error = raised(MODELS.build, dict(type='LargeFOVHead', colour=1))
    assert "unexpected keyword argument 'colour'" in mistake(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    'key, value, message',
    [
        ('randomness.seed', 'abc', '(randomness): '),
        ('train_dataloader.batch_size', 0, '(train_dataloader): batch_size should be a'),
        ('train_dataloader.batch_size', 'two', '(train_dataloader): batch_size should be'),
        ('train_dataloader.num_workers', -1, '(train_dataloader): num_workers option'),
        ('val_dataloader.num_workers', -1, '(val_dataloader): num_workers option should'),
        ('optim_wrapper.optimizer.lr', -1, '(optim_wrapper): Invalid learning rate: -1'),
        ('optim_wrapper.optimizer.lr', 'abc', '(optim_wrapper): '),
        ('param_scheduler.end', -5, '(param_scheduler): end should be larger than begin'),
    ],
)
def test_what_others_refuse_while_the_runner_builds(tmp_path, key, value, message):
    config = Config(
        dict(
            model=dict(type='SomeModel'),
            work_dir=str(tmp_path),
            default_scope='mmseg',
            train_dataloader=dict(LOADER),
            val_dataloader=dict(LOADER),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
            val_cfg=dict(),
            val_evaluator=dict(type='DumpResults', out_file_path='a.pkl'),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            param_scheduler=dict(type='ConstantLR', end=1, by_epoch=False),
            experiment_name=f'{key}={value}',
        )
    )
    config.merge_from_dict({key: value})
    error = raised(lambda: Runner.from_cfg(config).train())
    assert mistake(error).startswith(f'the config does not fit {message}')
    assert mistake(error).endswith(f'; {TRACEBACK}=1 in the environment shows where')


def test_a_line_of_ours_that_fails_while_the_runner_builds():
    """A fault of the program."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        error = raised(Runner.build_dataloader, dict(dataset=dict(type='Unchecked')))
    assert isinstance(error, TypeError) and mistake(error) is None


def test_a_mistake_that_a_worker_finds(tmp_path):
    def first(path):
        return next(iter(torch.utils.data.DataLoader(Files(path), num_workers=1)))

    (tmp_path / 'a.txt').touch()
    assert mistake(raised(first, tmp_path / 'a.txt')).startswith(
        f'the label file {tmp_path}/a.txt must be .json or .csv'
    )
    (tmp_path / 'a.json').write_text('{}')
    assert mistake(raised(first, tmp_path / 'a.json')) is None  # voc_palette


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--option'], 'unrecognized arguments: --option'),
        (['--cfg-options', 'a.b'], "'a.b' has no value: write a.b=VALUE"),
        (['--cfg-options', 'a=1', '=b'], "'=b' has no value: write KEY=VALUE"),
        (['--cfg-options', 'a=[1,2'], 'a=[1,2: Imbalanced brackets'),
        (['--max-pixels', '0'], "expected a whole number of at least 1, or none, got '0'"),
        (['--max-pixels', '-5'], '--max-pixels: expected a whole number of at least 1'),
        (['--max-pixels', '1e6'], "or none, got '1e6'"),
        (['--max-pixels', '²'], "or none, got '²'"),
    ],
)
def test_arguments(capsys, arguments, message):
    parser = CommandParser('What it does.')
    add_config_options(parser)
    parser.add_argument('--max-pixels', type=pixel_limit)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ') and message in line


def test_a_limit_of_pixels():
    assert pixel_limit('1000') == PixelLimit(1000)
    assert pixel_limit('none') == PixelLimit(None)


def test_options_of_a_config():
    parser = CommandParser('What it does.')
    add_config_options(parser)
    assert isinstance(parser, argparse.ArgumentParser)
    args = parser.parse_args(['--cfg-options', 'a.b=[1,2]', 'c=x=y'])
    assert args.cfg_options == {'a.b': [1, 2], 'c': 'x=y'}


def test_options_that_mmengine_cannot_parse(capsys):
    parser = CommandParser('What it does.')
    add_config_options(parser)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(['--cfg-options', "hooks=[dict(type='A',b=1)]"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --cfg-options: hooks=[dict(type='A',b=1)]: a value is")
