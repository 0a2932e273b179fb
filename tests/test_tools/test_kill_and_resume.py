"""Trainings in processes of their own that are ended by SIGKILL."""

import subprocess
import sys

import pytest
import torch
from mmengine.registry import DefaultScope

from golden import ROOT
from mask_run import make_data, mask_environment
from resume_run import resume_config
from scripts import load_script

TOOL = ROOT / 'tools/analysis/kill_and_resume.py'


@pytest.fixture
def tool():
    return load_script(TOOL)


@pytest.mark.slow
def test_three_kills(tmp_path):
    """With a loader worker, and validations among the iterations."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        cfg = resume_config(make_data(tmp_path / 'data'), 'unused')
    cfg.merge_from_dict({'train_cfg.max_iters': 40, 'train_cfg.val_interval': 6})
    cfg.train_dataloader.update(num_workers=1, persistent_workers=True)
    cfg.default_hooks.checkpoint.save_best = None
    for key in ('work_dir', 'experiment_name'):
        cfg.pop(key)
    cfg.dump(tmp_path / 'tiny.py')
    work_dir = tmp_path / 'work'
    command = [sys.executable, TOOL, tmp_path / 'tiny.py', '--work-dir', work_dir]
    result = subprocess.run(
        [*map(str, command), '--kills', '3'],
        env=mask_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert '3 kills: 0 of ' in result.stdout


@pytest.mark.parametrize(
    'value, same',
    [
        (torch.ones(2), True),
        (torch.tensor([1.0, 1.0 + 2**-23]), False),
        (torch.ones(3), False),
        (1.0, False),
    ],
)
def test_any_bit_is_seen(tool, value, same):
    names = tool.differing({'a/0': torch.ones(2), 'b': 1}, {'a/0': value, 'b': 1})
    assert names == ([] if same else ['a/0'])


def test_what_is_missing_is_seen(tool):
    assert tool.differing({'a': 1}, {'b': 1}) == ['a', 'b']


def test_a_folder_with_something_in_it(tmp_path):
    (tmp_path / 'file').touch()
    command = [sys.executable, str(TOOL), 'config.py', '--work-dir', str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and 'is not empty' in result.stderr


def test_a_failed_training_is_one_line(tool, tmp_path, mistake_of):
    line = mistake_of(tool.main, ['no.py', '--work-dir', str(tmp_path / 'work')])
    assert line == f'error: the training has failed: see {tmp_path}/work/whole/output.txt'
    assert 'no.py' in (tmp_path / 'work/whole/output.txt').read_text()
