"""tools/train.py and tools/test.py, run as a user runs them."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from scripts import load_script
from tiny_run import CONFIG, read_record


@pytest.fixture
def config(tmp_path):
    # Runners of one name and second share MMEngine's message hub: the name is the folder's
    path = tmp_path / f'{tmp_path.name}.py'
    path.write_text(CONFIG)
    return path


@pytest.fixture
def run(repo_root, monkeypatch, tmp_path):
    """Run tools/NAME.py in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setenv('LOCAL_RANK', '0')
        path = repo_root / 'tools' / f'{name}.py'
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        module = load_script(path)
        module.main()

    return run


def test_train_validates_and_saves(run, config, tmp_path):
    run('train', config)
    work_dir = tmp_path / 'work_dirs' / config.stem
    record = read_record(work_dir)
    assert record['seen'] == [0, 1, 2, 3, 4, 5, 6, 7] * 2
    assert record['dtype'] == 'torch.float32'
    assert record['metrics'] == dict(samples=8, total=28)
    assert (work_dir / 'iter_4.pth').is_file()


def test_work_dir_and_options(run, config, tmp_path):
    run(
        'train',
        config,
        '--work-dir',
        tmp_path / 'here',
        '--cfg-options',
        'train_cfg.max_iters=1',
        'train_dataloader.batch_size=2',
    )
    assert read_record(tmp_path / 'here')['seen'] == [0, 1]


def test_resume_continues_where_it_stopped(run, config, tmp_path):
    run('train', config, '--work-dir', tmp_path / 'whole')
    half = ('train', config, '--work-dir', tmp_path / 'parts')
    run(
        *half,
        '--cfg-options',
        'train_cfg.max_iters=2',
        'experiment_name=part1_' + config.stem,
    )
    run(*half, '--resume', '--cfg-options', 'experiment_name=part2_' + config.stem)
    whole, parts = read_record(tmp_path / 'whole'), read_record(tmp_path / 'parts')
    assert (whole['first'], parts['first']) == (0, 2)
    torch.testing.assert_close(parts['weight'], whole['weight'])


@pytest.mark.parametrize(
    'in_config, flag, first',
    [(False, False, 0), (False, True, 2), (True, False, 2), (True, True, 2)],
)
def test_config_and_flag_both_resume(run, config, tmp_path, in_config, flag, first):
    half = ('train', config, '--work-dir', tmp_path / 'run', '--cfg-options')
    run(*half, 'train_cfg.max_iters=2', 'experiment_name=part1_' + config.stem)
    config.write_text(config.read_text() + f'resume = {in_config}\n')
    run(*half, 'experiment_name=part2_' + config.stem, *['--resume'] * flag)
    assert read_record(tmp_path / 'run')['first'] == first


def test_resume_runs_no_text_of_the_checkpoint(run, config, tmp_path):
    half = ('train', config, '--work-dir', tmp_path / 'run', '--cfg-options')
    run(*half, 'train_cfg.max_iters=2', 'experiment_name=part1_' + config.stem)
    path = tmp_path / 'run' / 'iter_2.pth'
    checkpoint, ran = torch.load(path), tmp_path / 'ran'
    checkpoint['meta']['config'] = f'open({str(ran)!r}, "w")'
    checkpoint['message_hub']['runtime_info']['cfg'] = checkpoint['meta']['config']
    torch.save(checkpoint, path)
    run(*half, 'experiment_name=part2_' + config.stem, '--resume')
    assert read_record(tmp_path / 'run')['first'] == 2 and not ran.exists()


def test_load_from_does_not_take_the_place_of_the_own_checkpoint(run, config, tmp_path):
    run('train', config, '--work-dir', tmp_path / 'first')
    config.write_text(
        config.read_text() + f'load_from = {str(tmp_path / "first/iter_4.pth")!r}\n'
    )
    half = ('train', config, '--work-dir', tmp_path / 'run', '--cfg-options')
    run(*half, 'train_cfg.max_iters=2', 'experiment_name=part1_' + config.stem)
    run(*half, 'experiment_name=part2_' + config.stem, 'log_level=INFO', '--resume')
    assert read_record(tmp_path / 'run')['first'] == 2
    logs = [path.read_text() for path in (tmp_path / 'run').glob('*/*.log')]
    assert any('iter_4.pth is ignored.' in log for log in logs)


def test_amp_without_a_gpu(run, config, tmp_path):
    run('train', config, '--work-dir', tmp_path / 'exact')
    run(
        'train',
        config,
        '--amp',
        '--work-dir',
        tmp_path / 'amp',
        '--cfg-options',
        'experiment_name=amp_' + config.stem,
        'optim_wrapper.dtype=bfloat16',  # a key of mixed precision alone
    )
    exact, amp = read_record(tmp_path / 'exact'), read_record(tmp_path / 'amp')
    assert amp['dtype'] == 'torch.bfloat16'
    # AdamW's first steps are about the rate (0.1) whatever the gradient's size; bfloat16
    # has 8 bits, so that gradients, and the steps with them, differ by a percent or so
    torch.testing.assert_close(amp['weight'], exact['weight'], atol=0.02, rtol=0.02)
    assert amp['weight'] != exact['weight']


@pytest.mark.slow
def test_two_processes(run, config, tmp_path, repo_root):
    """Two of batch 2 are one of batch 4: same weights, every sample once."""
    run('train', config, '--work-dir', tmp_path / 'one')
    paths = [str(repo_root), str(repo_root / 'tests'), os.environ.get('PYTHONPATH', '')]
    result = subprocess.run(
        [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc_per_node',
            '2',
            str(repo_root / 'tools' / 'train.py'),
            str(config),
            '--launcher',
            'pytorch',
            '--work-dir',
            str(tmp_path / 'two'),
            '--cfg-options',
            'train_dataloader.batch_size=2',
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS='1'),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    one = read_record(tmp_path / 'one')
    ranks = [read_record(tmp_path / 'two', rank) for rank in range(2)]
    assert [rank['world_size'] for rank in ranks] == [2, 2]
    assert ranks[0]['seen'] == [0, 2, 4, 6] * 2 and ranks[1]['seen'] == [1, 3, 5, 7] * 2
    assert ranks[0]['weight'] == ranks[1]['weight']
    # the mean of two means is another order of summation
    torch.testing.assert_close(ranks[0]['weight'], one['weight'], atol=1e-5, rtol=1e-4)
    assert ranks[0]['metrics'] == dict(samples=8, total=28)
    assert (tmp_path / 'two' / 'iter_4.pth').is_file()


def test_one_process_shares_no_weights_out(run, config, tmp_path):
    """A config that would, tests/test_engine/test_sharding.py, runs as any other."""
    with config.open('a') as file:
        file.write(
            "runner_type = 'ShardedRunner'\nstrategy = dict(type='ShardedStrategy')\n"
            "log_level = 'INFO'\n"
        )
    run('train', config, '--work-dir', tmp_path / 'train')
    (log,) = (tmp_path / 'train').glob('*/*.log')
    assert 'Weights are not shared out' in log.read_text()
    checkpoint = tmp_path / 'train/iter_4.pth'
    run('test', config, checkpoint, '--work-dir', tmp_path / 'test')
    assert read_record(tmp_path / 'test')['metrics'] == dict(samples=8, total=28)


def test_a_test_leaves_the_copy_of_the_config(run, config, tmp_path):
    """With which the checkpoints of the training are used."""
    folder = tmp_path / 'work'
    run('train', config, '--work-dir', folder)
    copy = folder / config.name
    before = copy.read_bytes()
    run('test', config, folder / 'iter_4.pth', '--work-dir', folder)
    assert copy.read_bytes() == before
    copy.unlink()
    run('test', config, folder / 'iter_4.pth', '--work-dir', folder)
    assert b"load_from = '" in copy.read_bytes()


def test_test_gives_the_metrics_of_a_checkpoint(run, config, tmp_path):
    run('train', config, '--work-dir', tmp_path / 'train')
    run(
        'test',
        config,
        tmp_path / 'train' / 'iter_4.pth',
        '--work-dir',
        tmp_path / 'test',
        '--cfg-options',
        'experiment_name=test_' + config.stem,
    )
    trained, tested = read_record(tmp_path / 'train'), read_record(tmp_path / 'test')
    assert tested['weight'] == trained['weight']
    assert tested['metrics'] == dict(samples=8, total=28)


@pytest.mark.parametrize('hooks', ['[]', "[dict(type='SanityCheckHook')]"])
def test_checkpoint_that_lacks_weights_or_holds_nan(
    run, mistake_of, config, tmp_path, hooks
):
    """Also where the config has no SanityCheckHook, as those of MMSegmentation."""
    config.write_text(f'{CONFIG}custom_hooks = [dict(type="TinyRecord"), *{hooks}]\n')
    weight = torch.ones(2, 3)
    torch.save(dict(state_dict={'classifier.weight': weight}), tmp_path / 'part.pth')
    work_dir = ('--work-dir', tmp_path / 'test')
    message = mistake_of(run, 'test', config, tmp_path / 'part.pth', *work_dir)
    assert re.search("lacks 1 weights.*'classifier.bias'.*may_lack", message)
    state = {'classifier.weight': weight / 0 * 0, 'classifier.bias': torch.ones(2)}
    torch.save(dict(state_dict=state), tmp_path / 'nan.pth')
    message = mistake_of(run, 'test', config, tmp_path / 'nan.pth', *work_dir)
    assert re.search("not numbers.*'classifier.weight'", message)
    assert not (tmp_path / 'test' / 'rank0.json').exists()


def test_weights_that_are_allowed_to_be_missing(run, config, tmp_path):
    config.write_text(f'{CONFIG}custom_hooks = [dict(type="TinyRecord")]\n')
    torch.save(
        dict(state_dict={'classifier.weight': torch.ones(2, 3)}), tmp_path / 'part.pth'
    )
    run(
        'test',
        config,
        tmp_path / 'part.pth',
        '--work-dir',
        tmp_path / 'test',
        '--cfg-options',
        "default_hooks.sanity_check.may_lack=['classifier.bias']",
    )
    assert read_record(tmp_path / 'test')['metrics'] == dict(samples=8, total=28)


def test_checkpoint_with_other_classes(run, mistake_of, config, tmp_path):
    run('train', config, '--work-dir', tmp_path / 'train')
    arguments = ('test', config, tmp_path / 'train' / 'iter_4.pth')
    message = mistake_of(run, *arguments, '--cfg-options', 'model.num_classes=3')
    assert 'K=2 classes, the model is built for K=3' in message


@pytest.mark.parametrize(
    'arguments, message',
    [
        (('--source', 'cam'), '--source belongs to --pseudo-labels'),
        (('--crf', '--protocols'), '--crf belongs to --pseudo-labels or --export-voc'),
        (('--pseudo-labels', 'a', '--protocols'), 'not allowed with'),
        (('--calibrate', 'a', '--protocols'), 'not allowed with'),
        (('--calibration', 'a'), '--calibration belongs to --pseudo-labels or --protocols'),
        (('--fit-confidence', 'a', '--protocols'), '--fit-confidence belongs to --reliab'),
        (('--num-images', '3', '--protocols'), '--num-images belongs to --calibrate'),
        (('--out', 'a', '--protocols'), '--out belongs to the usual evaluation, which'),
        (('--out', 'a', '--calibrate', 'b'), 'evaluation, which --calibrate replaces'),
        (('--out', 'a', '--export-voc', 'b.zip'), 'evaluation, which --export-voc repl'),
        (('--pseudo-labels', 'a', '--calibration', 'b'), 'no calibration file b'),
        (('--pseudo-labels', 'a', '--source', 'cams'), 'invalid choice'),
    ],
)
def test_mask_options_that_do_not_fit(
    run, mistake_of, config, tmp_path, arguments, message
):
    (tmp_path / 'a.pth').write_bytes(b'any')
    assert message in mistake_of(run, 'test', config, tmp_path / 'a.pth', *arguments)


def test_missing_config(run, mistake_of, config):
    message = mistake_of(run, 'train', str(config)[:-4] + 'x.py')
    assert 'does not exist. Did you mean' in message and str(config) in message
    message = mistake_of(run, 'train', 'nowhere/at_all.py')
    assert 'config nowhere/at_all.py does not exist' in message


def test_missing_checkpoint(run, mistake_of, config, tmp_path):
    (tmp_path / 'iter_9.pth').touch()
    message = mistake_of(run, 'test', config, tmp_path / 'iter_8.pth')
    assert 'iter_8.pth does not exist' in message and 'there are: iter_9.pth' in message


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_misspelled_key(run, mistake_of, config, tmp_path, tool):
    (tmp_path / 'a.pth').write_bytes(b'any')
    checkpoint = [tmp_path / 'a.pth'] if tool == 'test' else []
    message = mistake_of(
        run, tool, config, *checkpoint, '--cfg-options', 'train_cgf.max_iters=1'
    )
    assert "'train_cgf' is not known, did you mean 'train_cfg'?" in message


def test_misspelled_argument_of_a_part(run, mistake_of, config):
    message = mistake_of(run, 'train', config, '--cfg-options', 'model.num_clases=3')
    assert "model.num_clases is not known, did you mean 'num_classes'?" in message


def test_an_option_without_a_value(run, mistake_of, config):
    message = mistake_of(run, 'train', config, '--cfg-options', 'model.num_classes')
    assert 'write model.num_classes=VALUE' in message


def test_a_type_that_is_not_registered(run, mistake_of, config, tmp_path):
    """What nothing is close to is found when it is built."""
    options = ('--cfg-options', 'model.type=NothingLikeIt')
    message = mistake_of(run, 'train', config, *options)
    assert 'NothingLikeIt is not in the mmseg::model registry' in message


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 and no end'])
def test_a_checkpoint_that_was_cut(run, mistake_of, config, tmp_path, content):
    (tmp_path / 'a.pth').write_bytes(content)
    message = mistake_of(run, 'test', config, tmp_path / 'a.pth')
    assert 'a.pth is empty' in message if not content else 'a.pth was cut off' in message


def test_launcher_that_was_not_launched(run, mistake_of, config, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    message = mistake_of(run, 'train', config, '--launcher', 'pytorch')
    assert 'RANK' in message and 'torchrun --nproc_per_node 2' in message
    message = mistake_of(run, 'train', config, '--launcher', 'slurm')
    assert "'slurm' needs a GPU" in message


# ------------------------------------------------------------ learning rate
SCHEDULED = """
optim_wrapper = dict(
    type='OptimWrapper', constructor='MergedOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=.1),
    paramwise_cfg=dict(custom_keys={'classifier.weight': dict(lr_mult=10.)}))
param_scheduler = [
    dict(type='PolyWarmupLR', warmup_iters=2, warmup_ratio=.5, by_epoch=False)]
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
"""


@pytest.mark.parametrize(
    'arguments, ratio',
    [
        ([], 1),
        (['--auto-scale-lr'], 2),  # a batch of 4
        (['--cfg-options', 'auto_scale_lr.enable=True'], 2),
    ],
)
def test_rates_in_the_log(run, config, tmp_path, arguments, ratio):
    """The warm-up starts from the scaled rate, and all that is logged is scaled."""
    config.write_text(CONFIG + SCHEDULED)
    run('train', config, '--work-dir', tmp_path / 'run', *arguments)
    (log,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [(line['lr'], line['base_lr']) for line in lines if 'lr' in line]
    factors = [0.5, 0.75, 0.5**0.9, 0.25**0.9]
    # 'lr' is that of the first group, 'base_lr' that of the config
    expected = [(1.0 * ratio * factor, 0.1 * ratio * factor) for factor in factors]
    assert steps == [pytest.approx(pair) for pair in expected]


def test_scaled_rates_when_resumed(run, config, tmp_path):
    config.write_text(CONFIG + SCHEDULED)
    whole = ('train', config, '--auto-scale-lr', '--work-dir')
    run(*whole, tmp_path / 'whole')
    run(
        *whole,
        tmp_path / 'run',
        '--cfg-options',
        'train_cfg.max_iters=2',
        'param_scheduler.0.end=4',
        'experiment_name=part1_' + config.stem,
    )
    name = 'experiment_name=part2_' + config.stem
    run(*whole, tmp_path / 'run', '--resume', '--cfg-options', name)
    logs = [
        [
            (line['lr'], line['base_lr'])
            for file in sorted((tmp_path / folder).glob('*/vis_data/scalars.json'))
            for line in map(json.loads, file.read_text().splitlines())
            if 'lr' in line
        ]
        for folder in ('whole', 'run')
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 4


def test_rate_that_is_meant_for_no_batch_size(run, config, capsys):
    with pytest.raises(SystemExit):
        run('train', config, '--auto-scale-lr')
    assert 'add auto_scale_lr = dict(base_batch_size=N)' in capsys.readouterr().err
