"""The scripts that start tools/train.py and tools/test.py on several GPUs."""

import os
import subprocess

import pytest

from golden import ROOT


@pytest.fixture
def started(tmp_path):
    """What a script would start: programs of these names print their arguments."""
    for name in ('torchrun', 'srun'):
        program = tmp_path / 'bin' / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)

    def started(script, *arguments, **variables):
        result = subprocess.run(
            ['bash', str(ROOT / 'tools' / script), *arguments],
            capture_output=True,
            text=True,
            env=dict(os.environ, PATH=f'{tmp_path}/bin:{os.environ["PATH"]}', **variables),
        )
        return result.returncode, result.stdout.strip(), result.stderr

    return started


def test_several_gpus(started):
    status, line, _ = started('dist_train.sh', 'a.py', '2', '--amp', '--work-dir', 'w')
    assert status == 0 and line == (
        'torchrun --nnodes 1 --node_rank 0 --master_addr 127.0.0.1 --master_port 29500 '
        f'--nproc_per_node 2 {ROOT}/tools/train.py a.py --launcher pytorch '
        '--amp --work-dir w'
    )
    _, line, _ = started('dist_test.sh', 'a.py', 'a.pth', '8', '--tta')
    assert line.endswith(
        f'--nproc_per_node 8 {ROOT}/tools/test.py a.py a.pth --launcher pytorch --tta'
    )


def test_several_machines(started):
    variables = dict(NNODES='3', NODE_RANK='2', MASTER_ADDR='first', PORT='1234')
    _, line, _ = started('dist_train.sh', 'a.py', '2', **variables)
    assert line.startswith(
        'torchrun --nnodes 3 --node_rank 2 --master_addr first --master_port 1234 '
    )


def test_slurm(started):
    variables = dict(GPUS='16', GPUS_PER_NODE='8', SRUN_ARGS='--time 1 --qos high')
    _, line, _ = started('slurm_train.sh', 'gpu', 'job', 'a.py', '--resume', **variables)
    assert line == (
        'srun -p gpu --job-name job --gres gpu:8 --ntasks 16 --ntasks-per-node 8 '
        '--cpus-per-task 5 --kill-on-bad-exit=1 --time 1 --qos high '
        f'python -u {ROOT}/tools/train.py a.py --launcher slurm --resume'
    )
    _, line, _ = started('slurm_test.sh', 'gpu', 'job', 'a.py', 'a.pth', '--tta')
    assert line.endswith(f'{ROOT}/tools/test.py a.py a.pth --launcher slurm --tta')


@pytest.mark.parametrize(
    'script, arguments',
    [
        ('dist_train.sh', ['a.py']),
        ('dist_test.sh', ['a.py', 'a.pth']),
        ('slurm_train.sh', ['gpu', 'job']),
        ('slurm_test.sh', ['gpu', 'job', 'a.py']),
    ],
)
def test_too_few_arguments(started, script, arguments):
    status, out, error = started(script, *arguments)
    assert status == 2 and not out and error.startswith('usage: ')
