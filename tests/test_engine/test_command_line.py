"""A user's mistake is one line; a fault of the program is a traceback."""

import argparse
import errno
import warnings

import pytest
import torch
from mmengine.logging import MMLogger

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

from mmseg.registry import MODELS


class Files(torch.utils.data.Dataset):
    """Reads one label file in a worker."""

    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return read_label_file(self.path) or voc_palette('no number')


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
