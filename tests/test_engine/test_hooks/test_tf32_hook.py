import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import tiny_run
from mmseg_more.engine.hooks.tf32_hook import TF32Flags

from mmseg.registry import HOOKS


@pytest.fixture(autouse=True)
def flags_of_pytorch():
    before = TF32Flags.current()
    TF32Flags(matmul=False, conv=True).apply()
    yield
    before.apply()


@HOOKS.register_module()
class RecordFlags(Hook):
    """Writes the switches that are seen in a step and in a test."""

    def _write(self, runner):
        Path(runner.work_dir, 'flags.json').write_text(
            json.dumps(
                [
                    torch.backends.cuda.matmul.allow_tf32,
                    torch.backends.cudnn.allow_tf32,
                    torch.get_float32_matmul_precision(),
                ]
            )
        )

    def after_train_iter(self, runner, *args, **kwargs):
        self._write(runner)

    def after_test_iter(self, runner, *args, **kwargs):
        self._write(runner)


@pytest.mark.parametrize('run', ['train', 'test'])
@pytest.mark.parametrize(
    'options, expected',
    [
        ({}, [True, True, 'high']),
        (dict(conv=False), [True, False, 'high']),
        (dict(matmul=False, conv=False), [False, False, 'highest']),
    ],
)
def test_switches_during_a_run_and_after_it(tmp_path, run, options, expected):
    cfg = Config.fromstring(tiny_run.CONFIG, '.py')
    # as from the command line
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path),
            'default_hooks.tf32.type': 'TF32Hook',
            **{f'default_hooks.tf32.{key}': value for key, value in options.items()},
        }
    )
    cfg.custom_hooks.append(dict(type='RecordFlags'))
    runner = Runner.from_cfg(cfg)
    assert TF32Flags.current() == (False, True)  # not before the run
    getattr(runner, run)()
    assert json.loads((tmp_path / 'flags.json').read_text()) == expected
    assert TF32Flags.current() == (False, True)
