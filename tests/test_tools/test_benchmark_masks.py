"""The pipeline of masks and the plain way, on images of a few pixels."""

import json
import runpy

import pytest
import torch

import mask_run
from golden import ROOT
from mmseg_more.benchmark.process_tree import TreeMeter, tree_bytes

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def data(tmp_path):
    folder = mask_run.make_data(tmp_path / 'data')
    mask_run.config(folder).dump(folder / 'config.py')
    return folder


def run(*arguments):
    path = ROOT / 'tools/analysis/benchmark_masks.py'
    runpy.run_path(str(path))['main']([str(a) for a in arguments])


def test_pipeline_and_plain_way(data, tmp_path, capsys):
    out = tmp_path / 'masks.json'
    run(
        data / 'config.py',
        data / 'weights.pth',
        '--noise',
        2,
        '--noise-size',
        60,
        80,
        '--workers',
        1,
        '--device',
        'cpu',
        '--json',
        out,
    )
    found = json.loads(out.read_text())['masks']
    assert list(found) == ['lam', 'seg', 'noise']
    assert found['lam']['images'] == len(mask_run.IMAGES)
    assert found['lam']['channels'] == 3  # of two classes
    labels = [len(labels) for _, labels in mask_run.IMAGES.values()]
    assert found['lam']['channels_kept'] == pytest.approx(1 + sum(labels) / len(labels))
    assert found['noise']['channels'] == 21
    assert 3 < found['noise']['channels_kept'] < 18
    for name, value in found.items():
        assert value['different_percent'] <= 0.05
        assert value['bytes_per_image'] > 800  # the palette alone
        assert value['plain_s'] == pytest.approx(1 / value['plain_images_per_s'])
        assert value['ratio'] == pytest.approx(
            value['masks_s'] / max(value['network_s'], value['crf_s'])
        )
        assert value['peak_mb'] > 50 and value['plain_peak_mb'] > 50
    printed = capsys.readouterr().out
    assert 'test data, seg' in printed and 'images/s, pipeline' in printed


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['none.py', 'x.pth'], 'x.pth does not exist'),
        (['CONFIG', 'WEIGHTS', '--noise', -1], '--noise must not be negative'),
        (['CONFIG', 'WEIGHTS', '--sources', 'lamm'], 'invalid choice'),
    ],
)
def test_wrong_arguments_are_named(arguments, message, data, capsys):
    files = dict(CONFIG=data / 'config.py', WEIGHTS=data / 'weights.pth')
    with pytest.raises(SystemExit):
        run(*(files.get(a, a) for a in arguments))
    assert message in capsys.readouterr().err


def test_memory_of_the_tree_has_a_peak():
    before = tree_bytes()
    with TreeMeter(interval=0.01) as meter:
        block = torch.ones(2**26, dtype=torch.uint8)
        while meter.peak < before + len(block) // 2:
            pass
    assert meter.peak_mb >= (before + 2**25) / 2**20
