"""tools/analysis/ablation.py: rows, trainings by a stand-in or a tiny model, report."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from golden import ROOT
from mmseg_more.masks.lock import FolderLock
from scripts import analysis_script

from mmseg.registry import MODELS

FULL = ROOT / 'configs/more/more_vit-t_shapes.py'
BASELINE = ROOT / 'configs/more/more_vit-t_shapes_baseline.py'

# What a training leaves, as a function of its config. `fail` and `sleep` stand in the
# config's log_level.
TRAINER = """
import json, os, sys, time
config, _, work_dir = sys.argv[1:]
cfg = {}
exec(open(config).read(), cfg)
open(os.path.join(work_dir, 'started'), 'a').write('x')
seed, model = cfg['randomness']['seed'], cfg['model']
if cfg['log_level'] == f'fail{seed}':
    sys.exit('the loss is not finite')
if cfg['log_level'] == 'sleep':
    open(os.path.join(work_dir, 'half'), 'w').write(str(os.getpid()))
    time.sleep(60)
if cfg['log_level'] == 'meet':  # both at once, or never
    open(os.path.join(work_dir, '..', f'here{seed}'), 'w').close()
    other, end = os.path.join(work_dir, '..', f'here{1 - seed}'), time.time() + 20
    while not os.path.exists(other):
        assert time.time() < end, 'nobody came'
        time.sleep(.05)
parts = [model['graph'] is not None]
parts += [model['losses'][name]['loss_weight'] > 0 for name in ('ptc', 'cre', 'ure')]
value = 40. + 10 * sum(parts) + seed ** 2 * (1 + .01 * parts[0])
figures = dict(mIoU=value, precision=value, recall=value, confusion_ratio=1 / value)
metrics = {f'{m}/{k}': v for m in ('seg', 'lam', 'cam') for k, v in figures.items()}
metrics['lam/mIoU_best'] = metrics['seg/IoU/disk'] = value
metrics['lam/confusion_ratio'] = None
metrics['threads'] = int(os.environ['OMP_NUM_THREADS'])
print('trained')
with open(cfg['val_evaluator']['out_json'], 'w') as file:
    json.dump(metrics, file)
"""


@pytest.fixture(scope='module')
def tool():
    """The script as a module."""
    with analysis_script('ablation') as script:
        yield script


@pytest.fixture
def study(tool, tmp_path, monkeypatch, capsys):
    """Run the command with a stand-in for tools/train.py: status, output, errors."""
    trainer = tmp_path / 'trainer.py'
    trainer.write_text(TRAINER)
    monkeypatch.setattr(tool.study_runs, 'TRAINER', (sys.executable, '-S', str(trainer)))

    def run(*arguments):
        command = ['--work-dir', tmp_path / 'a study, mine', '--config', FULL, *arguments]
        try:
            status = tool.main([str(word) for word in command])
        except SystemExit as stop:
            if stop.code != 2:  # a signal
                raise
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    run.folder = tmp_path / 'a study, mine'
    return run


def rows_of(tool):
    return tool.make_rows(144)


def build(tool, name):
    cfg = Config.fromfile(FULL)
    cfg.merge_from_dict(rows_of(tool)[name].options)
    init_default_scope('mmseg')
    return cfg, MODELS.build(cfg.model)


# ---------------------------------------------------------------- rows
def test_each_row_builds(tool):
    for name, row in rows_of(tool).items():
        _, model = build(tool, name)
        assert (model.graph is None) == ('model.graph' in row.options)
        active = model.loss_schedule.active(10**6).names
        for part in ('ptc', 'cre', 'ure'):
            assert (part in active) == (
                f'model.losses.{part}.loss_weight' not in row.options
            )
        assert {'cls', 'cls_aux', 'mct', 'seg', 'energy'} <= set(active)
        if model.graph is not None:
            assert model.graph.tail == (
                'patches' if row.gcr in ('patches', 'paper') else 'all'
            )
            assert (model.graph.weighting == 'dot') == (row.gcr in ('dot', 'paper'))


def test_baseline_is_the_shipped_config(tool):
    cfg, model = build(tool, 'baseline')
    assert cfg.to_dict() == Config.fromfile(BASELINE).to_dict()
    assert model.graph is None
    for name in ('ptc', 'cre', 'ure'):
        assert cfg.model.losses[name].loss_weight == 0


def test_leave_one_out_changes_one_thing(tool):
    rows = rows_of(tool)
    assert rows['full'].options == {}
    seen = set()
    for gcr in ('code', 'patches', 'dot', 'paper'):
        full = rows['full' if gcr == 'code' else f'full-{gcr}'].options
        for part in ('ptc', 'cre', 'ure'):
            name = f'without-{part}' + ('' if gcr == 'code' else f'-{gcr}')
            (key,) = set(rows[name].options) - set(full)
            assert (
                key == f'model.losses.{part}.loss_weight' and rows[name].options[key] == 0
            )
            assert full.items() <= rows[name].options.items()
            seen.add(name)
    assert rows['without-gcr'].options == {'model.graph': None}
    assert len(rows) == 8 + 3 * 5  # every row with GCR in every form
    assert {name for name in rows if name.startswith('without')} == seen | {'without-gcr'}


def test_each_step_adds_one_part(tool):
    from study.rows import IN_TURN, OFF

    rows = rows_of(tool)
    added = [
        set(rows[a].options) - set(rows[b].options) for a, b in zip(IN_TURN, IN_TURN[1:])
    ]
    assert added == [set(OFF[part]) for part in ('ptc', 'gcr', 'cre', 'ure')]


@pytest.mark.parametrize(
    'config, patches, count', [('vit-t_shapes', 144, 72), ('vit-b_voc', 784, 392)]
)
def test_neighbours_are_the_papers_share(tool, config, patches, count):
    model = Config.fromfile(ROOT / f'configs/more/more_{config}.py').model
    assert tool.count_patches(model) == patches
    options = tool.make_rows(patches)['full-patches'].options
    assert options['model.graph.num_neighbors'] == count


def test_groups(tool):
    rows = rows_of(tool)
    assert tool.select(rows, ['all']) == list(rows)
    assert len(tool.select(rows, ['code', 'dot'])) == 13
    assert tool.select(rows, ['full', 'baseline']) == ['baseline', 'full']
    with pytest.raises(
        ValueError, match='unknown rows ful: choose from the groups all, code'
    ):
        tool.select(rows, ['ful'])


# ---------------------------------------------------------------- statistics
def test_interval_by_hand(tool):
    from study.statistics import mean_interval, paired_difference

    # mean 5, variance (9 + 1 + 1 + 1 + 4) / 4 = 4, t(.975, 4) = 2.776445
    interval = mean_interval([2, 4, 6, 6, 7])
    assert interval.n == 5 and interval.mean == 5
    assert interval.half == pytest.approx(2.776445 * math.sqrt(4 / 5), abs=1e-5)
    assert interval.excludes_zero
    # differences 1, 2, 3 of the seeds that both have; t(.975, 2) = 4.302653
    pair = paired_difference({0: 5, 1: 7, 2: 9, 7: 0}, {2: 6, 1: 5, 0: 4, 8: 100})
    assert (pair.n, pair.mean) == (3, 2)
    assert pair.half == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5)
    assert pair.low == pytest.approx(2 - pair.half) and not pair.excludes_zero


def test_intervals_of_few_values(tool):
    from study.statistics import mean_interval

    assert math.isnan(mean_interval([]).mean)
    one = mean_interval([3])
    assert one.mean == 3 and math.isnan(one.half) and one.excludes_zero is None
    same = mean_interval([-1.5] * 3)
    assert same.half == 0 and same.excludes_zero


# ---------------------------------------------------------------- runs
def cells(text, name, width=None):
    """Cells of the first line of a table that starts with ``name``, without it."""
    lines = [line.split('|')[1:-1] for line in text.splitlines()]
    lines = [[cell.strip() for cell in line] for line in lines]
    return next(
        line[1:]
        for line in lines
        if line and line[0] == name and (width is None or len(line) == width)
    )


def write_run(study, row, seed, value=50.0):
    """A finished run."""
    metrics = {f'{m}/mIoU': value for m in ('seg', 'lam', 'cam')}
    folder = study.folder / row / f'seed{seed}'
    folder.mkdir(parents=True)
    content = dict(row=row, seed=seed, metrics=metrics, settings={})
    (folder / 'run.json').write_text(json.dumps(content))


def run_json(study, row, seed):
    return json.loads((study.folder / row / f'seed{seed}' / 'run.json').read_text())


@pytest.mark.slow
def test_runs_and_report(study):
    status, out, err = study('--rows', 'code', '--seeds', 0, 2, '--threads', 3)
    assert status == 0, out + err
    content = run_json(study, 'without-cre', 2)
    assert (content['row'], content['seed']) == ('without-cre', 2)
    assert content['options'] == {'model.losses.cre.loss_weight': 0.0}
    assert content['metrics']['seg/mIoU'] == pytest.approx(70 + 4 * 1.01)
    assert content['metrics']['seg/IoU/disk'] == content['metrics']['seg/mIoU']
    assert content['metrics']['threads'] == content['threads'] == 3
    assert content['duration_s'] >= 0
    # in another place it is the same training
    assert content['settings']['model']['pretrained'].startswith('configs/more/')
    assert content['commit'] is None or len(content['commit']) >= 40
    assert 'NOT ALL THE SAME' not in out and 'Missing' not in out
    # 40 + 10 for each part; seed 2 adds 4, and 4 % with GCR
    mean = cells(out, 'without CRE', 10)
    assert mean[:2] == ['2', f'72.0 ± {12.706 * 2.02:.1f}']  # t(.975, 1) = 12.706
    assert mean[6:8] == [mean[1], '-']
    assert cells(out, 'without CRE - full') == [
        'segmentation mIoU', '-11.4', '-10.0 [-10.0, -10.0]', '2', 'yes', 'yes', 'shown'
    ]  # fmt: skip
    assert cells(out, 'without GCR - full')[2:] == [
        '-10.0 [-10.3, -9.8]', '2', 'yes', 'yes', 'shown'
    ]  # fmt: skip
    ratio = cells(out, '+ PTC - full')
    assert ratio[:2] == ['confusion ratio', '+0.100 (ToCo)'] and ratio[4] == 'yes'
    step = cells(out[out.index('One part after the other') :], '+ PTC, GCR')
    assert step[1] == '**+10.0 [+9.8, +10.3]**'
    assert 'are shown' in out and 'in the paper (order of the means' in out


@pytest.mark.slow
def test_goes_on_where_it_stopped(study):
    first = study('--rows', 'baseline', 'full', '--seeds', 0, 1)
    assert first[0] == 0
    half = study.folder / 'full' / 'seed1'
    (half / 'run.json').unlink()
    (half / 'old').touch()
    before = run_json(study, 'full', 0)
    status, out, _ = study('--rows', 'baseline', 'full', '--seeds', 0, 1, 2)
    assert status == 0 and '6 trainings, 3 have finished, 3 to run' in out
    assert 'full, seed 1: started anew' in out and not (half / 'old').exists()
    for folder in study.folder.glob('*/seed*'):
        assert (folder / 'started').read_text() == 'x'
    assert run_json(study, 'full', 0) == before


@pytest.mark.slow
def test_other_settings_are_refused(study):
    assert study('--rows', 'full', '--seeds', 0)[0] == 0
    options = ('--cfg-options', 'train_cfg.max_iters=7')
    status, out, err = study('--rows', 'full', '--seeds', 0, 1, *options)
    assert status == 2
    assert "full, seed 0 with other settings: 'train_cfg.max_iters: 1400 -> 7'" in err
    assert not (study.folder / 'full' / 'seed1').exists()
    # a report does not mix them, either
    assert study('--rows', 'baseline', '--seeds', 0, *options)[0] == 0
    status, out, err = study('--rows', 'baseline', 'full', '--seeds', 0, '--report')
    assert status == 2 and "different settings ('train_cfg.max_iters')" in err


@pytest.mark.slow
def test_a_failure_shows_its_log_and_others_go_on(study):
    options = ('--cfg-options', 'log_level=fail1')
    status, out, err = study('--rows', 'baseline', 'full', '--seeds', 0, 1, 2, *options)
    assert status == 1
    assert out.count('the loss is not finite') == 2 and 'FAILED (exit status 1)' in out
    assert '2 trainings failed: baseline, seed 1; full, seed 1' in err
    assert 'Missing: baseline (seed 1), full (seed 1).' in out
    assert run_json(study, 'full', 2) and '| 2 |' in out


@pytest.mark.slow
def test_a_training_without_figures_has_failed(study, tmp_path):
    (tmp_path / 'trainer.py').write_text('')
    status, _, err = study('--rows', 'full', '--seeds', 0)
    assert status == 1 and '1 trainings failed: full, seed 0' in err
    assert not (study.folder / 'full' / 'seed0' / 'run.json').exists()


@pytest.mark.slow
def test_two_at_once(study):
    status, out, _ = study(
        '--rows', 'full', '--seeds', 0, 1, '--jobs', 2, '--threads', 1,
        '--cfg-options', 'log_level=meet',
    )  # fmt: skip
    assert status == 0 and '2 to run, 2 at a time with 1 threads each' in out


def test_threads_are_shared(tool, monkeypatch):
    monkeypatch.setattr('study.command.usable_cores', lambda: 9)
    for jobs, threads in ((1, 9), (2, 4), (20, 1)):
        args = tool.parse_args(['--config', str(FULL), '--jobs', str(jobs)])
        assert args.threads == threads


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_children(study, capsys, number):
    halves = [study.folder / 'full' / f'seed{seed}' / 'half' for seed in (0, 1)]

    def interrupt():
        end = time.time() + 60
        while time.time() < end:
            if all(half.is_file() and half.read_text() for half in halves):
                os.kill(os.getpid(), number)
                return
            time.sleep(0.05)

    threading.Thread(target=interrupt).start()
    arguments = ('--rows', 'full', '--seeds', 0, 1, '--jobs', 2)
    options = ('--cfg-options', 'log_level=sleep')
    begin = time.time()
    if number == signal.SIGINT:
        # in the background of a shell it would be ignored
        before = signal.signal(number, signal.default_int_handler)
        try:
            status, out, err = study(*arguments, *options)
        finally:
            signal.signal(number, before)
        assert status == 130 and 'the same command goes on' in err
    else:
        with pytest.raises(SystemExit) as stop:
            study(*arguments, *options)
        assert stop.value.code == 143
        out = capsys.readouterr().out
        assert signal.getsignal(number) == signal.SIG_DFL
    assert time.time() - begin < 50  # a child sleeps for 60 s
    assert 'full, seed 1: ended, is run anew next time' in out
    for half in halves:
        with pytest.raises(ProcessLookupError):
            os.kill(int(half.read_text()), 0)
        assert not (half.parent / 'run.json').exists()
    assert not (study.folder / '.lock').exists()


def test_a_second_study_in_the_folder(study, tool):
    study.folder.mkdir()
    lock = FolderLock(study.folder)
    lock.acquire()
    status, _, err = study('--rows', 'full', '--seeds', 0)
    assert status == 2 and 'trainings are run there by process' in err
    assert not (study.folder / 'full').exists()
    lock.release()


# ---------------------------------------------------------------- report
def test_report_says_what_is_missing(study):
    for seed in (0, 2):
        write_run(study, 'baseline', seed)
        write_run(study, 'full', seed)
    status, out, _ = study('--report', '--rows', 'code', '--seeds', 0, 1, 2)
    assert status == 0
    assert 'Missing: baseline (seed 1), add-ptc (seed 0 1 2)' in out
    assert cells(out, 'without CRE - full')[2:] == ['-', '0', '-', '-', 'no runs']
    assert '12 have fewer than two' in out
    assert 'without PTC' not in out  # no run, no line


def fake_results(figures):
    """Results of ``{row: {seed: mIoU}}``."""
    return {
        row: {
            seed: dict(
                metrics={'seg/mIoU': value},
                settings={},
                commit='a',
                threads=1,
                duration_s=1,
            )
            for seed, value in seeds.items()
        }
        for row, seeds in figures.items()
    }


def test_verdicts(tool):
    from study.report import comparisons, summary

    full = {0: 70.0, 1: 72.0, 2: 74.0}
    results = fake_results(
        {
            'full': full,
            'baseline': {s: v - 30 - s for s, v in full.items()},
            'without-cre': {s: v + 5 + s for s, v in full.items()},
            'without-gcr': {s: v + (-1, 1, -1)[s] for s, v in full.items()},
            'without-ure': {0: 69.0},
        }
    )
    found = {
        one.row: (one.sign_agrees, one.ours.excludes_zero, one.verdict)
        for one in comparisons(results, 'code')
        if one.figure == 'seg/mIoU'
    }
    assert found == {
        'baseline': (True, True, 'shown'),
        'without-cre': (False, True, 'contradicted'),
        'without-gcr': (True, False, 'undecided'),
        'without-ure': (True, None, 'no interval'),
    }
    text = summary(comparisons(results, 'code'), results, 'code')
    assert (
        '1 are shown' in text and '1 are contradicted' in text and '1 are undecided' in text
    )
    assert 'baseline < without-ure < without-gcr < full < without-cre here' in text
    assert 'baseline < without-cre < without-gcr < without-ure < full in the paper' in text


def test_each_form_is_compared_with_its_own_full(tool):
    from study.report import comparisons, make_report

    full = {0: 70.0, 1: 72.0, 2: 74.0}
    results = fake_results(
        {
            'baseline': {s: v - 9 for s, v in full.items()},
            'full': full,
            'full-dot': {s: v - 4 for s, v in full.items()},
            'without-cre-dot': {s: v - 6 for s, v in full.items()},
        }
    )
    means = {
        one.row: one.ours.mean
        for one in comparisons(results, 'dot')
        if one.figure == 'seg/mIoU'
    }
    assert means['without-cre-dot'] == -2 and means['baseline'] == -5
    rows = rows_of(tool)
    text = make_report(results, rows, list(results), [0, 1, 2])
    section = text[text.index('### Forms of GCR') :]
    assert '-4.0 [-4.0, -4.0]' in section and 'without CRE' not in section


def test_mixed_runs_are_said(tool):
    from study.report import provenance

    results = fake_results({'full': {0: 1.0, 1: 2.0}})
    assert 'NOT ALL THE SAME' not in provenance(results)
    results['full'][1].update(commit='b', threads=2)
    text = provenance(results)
    assert 'commit: a (1 runs), b (1 runs)' in text
    assert 'threads each: 1 (1 runs), 2 (1 runs)' in text


def test_files(study, tmp_path, tool):
    for n, row in enumerate(rows_of(tool)):
        for seed in range(3):
            write_run(study, row, seed, 40 + n + seed)
    files = [tmp_path / name for name in ('out/a.md', 'out/rows.png', 'out/figure.png')]
    outputs = [w for pair in zip(('--markdown', '--plot', '--figure'), files) for w in pair]
    status, out, err = study('--report', '--seeds', 0, 1, 2, *outputs)
    assert status == 0, err
    assert files[0].read_text().strip() == out[out.index('69 runs') :].strip()
    assert Image.open(files[1]).size[0] > 800
    figure = Image.open(files[2])
    assert figure.size[0] == 1240 and files[2].stat().st_size <= 40_000
    colors = {color for _, color in figure.convert('RGB').getcolors(10**6)}
    assert any(b > r + 60 for r, _, b in colors)  # MoRe's bars are blue


def test_pictures_need_runs(study, tmp_path):
    write_run(study, 'full', 0)
    status, _, err = study('--report', '--figure', tmp_path / 'a.png')
    assert status == 2 and 'no finished run of baseline' in err
    status, _, err = study('--report', '--rows', 'baseline')
    assert status == 2 and 'holds no finished run of baseline' in err


def test_broken_file(study):
    write_run(study, 'full', 0)
    path = study.folder / 'full' / 'seed0' / 'run.json'
    for content, message in (
        ('{', 'cannot be read'),
        ('{"row": 1}', 'lacks metrics, seed'),
    ):
        path.write_text(content)
        status, _, err = study('--report', '--rows', 'full')
        assert status == 2 and message in err and 'to run it again' in err


# ---------------------------------------------------------------- arguments
@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--rows', 'fulll'], 'unknown rows fulll'),
        (['--jobs', '0'], 'must be at least 1'),
        (['--seeds', '-1'], 'must not be negative'),
        (['--config', 'none.py'], 'does not exist'),
        (['--cfg-options', 'randomness.seed=1'], 'the seeds are those of --seeds'),
        (['--cfg-options', 'val_evaluator.out_json=a'], 'without out_json'),
        (['--cfg-options', 'train_cgf.max_iters=1'], "did you mean 'train_cfg'"),
        (['--cfg-options', 'model.data_preprocessor=None'], 'data_preprocessor.size'),
    ],
)
def test_arguments(tool, mistake_of, arguments, message):
    config = [] if '--config' in arguments else ['--config', str(FULL)]
    assert message in mistake_of(tool.main, [*config, *arguments])


def test_rows_that_are_one(study):
    options = ('--cfg-options', 'model.losses.ure.loss_weight=0.0')
    status, _, err = study('--rows', 'code', '--seeds', 0, *options)
    assert status == 2 and 'without-ure and full are the same training' in err
    assert not list(study.folder.glob('*/seed*'))


def test_list(study):
    status, out, _ = study('--list', '--rows', 'baseline', 'full-paper')
    assert status == 0 and not study.folder.exists()
    assert 'model.graph=None' in out and 'model.graph.num_neighbors=72' in out


# ---------------------------------------------------------------- a real training
@pytest.mark.slow
def test_tools_train(tool, tmp_path, capsys):
    """tools/train.py on a few drawn images: the figures are those of the log's end."""
    data = tmp_path / 'shapes'
    subprocess.run(
        [sys.executable, ROOT / 'tools/dataset_converters/make_shapes.py', data,
         '--num-train', '20', '--num-val', '4'],
        check=True,
    )  # fmt: skip
    options = [f'{split}_dataloader.dataset.data_root={data}' for split in ('train', 'val')]
    options += [
        'train_dataloader.batch_size=2',
        'train_cfg.max_iters=3',
        'train_cfg.val_interval=2',
        *(
            f'model.losses.{loss}.begin=0'
            for loss in ('ptc', 'cre', 'ure', 'seg', 'energy')
        ),
    ]
    arguments = ['--work-dir', tmp_path / 'study', '--config', FULL, '--seeds', 3,
                 '--threads', 1, '--rows', 'baseline', 'full',
                 '--cfg-options', *options]  # fmt: skip
    status = tool.main([str(word) for word in arguments])
    out = capsys.readouterr().out
    assert status == 0, out
    for row in ('baseline', 'full'):
        folder = tmp_path / 'study' / row / 'seed3'
        content = json.loads((folder / 'run.json').read_text())
        (scalars,) = folder.glob('*/vis_data/scalars.json')
        last = json.loads(scalars.read_text().splitlines()[-1])
        assert last['step'] == 3
        assert content['metrics']['seg/mIoU'] == pytest.approx(last['seg/mIoU'])
        assert 'seg/IoU/disk' in content['metrics']
        state = torch.load(folder / 'iter_3.pth', weights_only=False)['state_dict']
        assert any(key.startswith('graph') for key in state) == (row == 'full')
        assert not list(folder.glob('best*'))
