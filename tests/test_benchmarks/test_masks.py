"""The pipeline of masks and the plain way, on images of a few pixels."""

import json
import logging

import pytest
from mmengine.logging import MMLogger

import mask_run
from benchmarks import masks


@pytest.fixture
def data(tmp_path):
    folder = mask_run.make_data(tmp_path / 'data')
    mask_run.config(folder).dump(folder / 'config.py')
    return folder


def run(*arguments):
    masks.main([str(argument) for argument in arguments])


@pytest.mark.slow
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
    for value in found.values():
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
        (['CONFIG', '--noise', 0], 'nothing to measure'),
        (['CONFIG', 'WEIGHTS', '--sources', 'lamm'], 'invalid choice'),
    ],
)
def test_wrong_arguments_are_named(arguments, message, data, capsys):
    files = dict(CONFIG=data / 'config.py', WEIGHTS=data / 'weights.pth')
    with pytest.raises(SystemExit):
        run(*(files.get(a, a) for a in arguments))
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_noise_needs_no_checkpoint(data, tmp_path):
    out = tmp_path / 'masks.json'
    arguments = ['--noise', 1, '--noise-size', 30, 40, '--workers', 1, '--device', 'cpu']
    run(data / 'config.py', *arguments, '--json', out)
    assert list(json.loads(out.read_text())['masks']) == ['noise']


@pytest.mark.slow
def test_what_is_loaded_is_no_message(data):
    records, logger = [], MMLogger.get_current_instance()
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    options = ['--noise', 0, '--limit', 1, '--sources', 'lam', '--workers', 1]
    try:
        run(data / 'config.py', data / 'weights.pth', *options, '--device', 'cpu')
        assert all(record.levelno >= logging.WARNING for record in records)
        logger.info('heard again')
        assert records[-1].getMessage() == 'heard again'
    finally:
        logger.removeHandler(handler)
