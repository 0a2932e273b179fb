"""tools/infer.py, run as a user runs it."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from golden import Golden, model_config
from mmseg_more.checkpoints import convert_official
from scripts import load_script

GOLDEN = Golden('inference')


@pytest.fixture
def infer(repo_root):
    module = load_script(repo_root / 'tools' / 'infer.py')
    return lambda *arguments: module.main([str(a) for a in arguments])


@pytest.fixture
def files(tmp_path):
    """Two folders of images, a config and a checkpoint."""
    cfg = model_config(GOLDEN.meta)
    cfg.test_dataloader.dataset.pipeline[1].scale = (64, 48)
    cfg.dump(tmp_path / 'config.py')
    torch.save(
        dict(state_dict=convert_official(GOLDEN.group('sd.'))), tmp_path / 'more.pth'
    )
    random = np.random.default_rng(0)
    for folder, names in dict(one='ab', two='c').items():
        (tmp_path / folder).mkdir()
        for name in names:
            cv2.imwrite(
                str(tmp_path / folder / f'{name}.png'),
                random.integers(0, 256, (20, 30, 3), dtype=np.uint8),
            )
    return tmp_path


def written(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*.*'))


@pytest.mark.slow
def test_folders_and_files(infer, files, capsys):
    status = infer(
        files / 'one',
        files / 'two' / 'c.png',
        files / 'config.py',
        files / 'more.pth',
        '--out-dir',
        files / 'out',
        '--source',
        'lam',
        '--crf',
        '--crf-workers',
        1,
        '--maps',
        'cam',
        'lam',
        '--scales',
        1,
        0.5,
        '--device',
        'cpu',
    )
    assert status == 0
    assert written(files / 'out') == [
        f'{kind}/{name}.png' for kind in ('pred',) for name in 'abc'
    ] + ['scores.json'] + [f'vis/{name}.png' for name in 'abc']
    scores = json.loads((files / 'out' / 'scores.json').read_text())
    assert list(scores) == ['a', 'b', 'c'] and len(scores['a']['scores']) == 20
    assert Image.open(files / 'out/pred/a.png').size == (30, 20)
    captured = capsys.readouterr()
    assert 'Inference' in captured.out and '100%' in captured.out  # the progress bar
    assert f'3 of 3 images: {files}/out' in captured.out
    last = captured.out.splitlines()[-1]
    assert last.startswith(f'next: correct the masks in {files}/out/pred')


def test_a_corrupt_image_is_named_and_the_rest_goes_on(infer, files, capsys):
    (files / 'one' / 'aa.png').write_bytes(b'no image')
    status = infer(
        files / 'one',
        files / 'config.py',
        files / 'more.pth',
        '--out-dir',
        files / 'out',
        '--no-pictures',
        '--device',
        'cpu',
    )
    assert status == 1
    assert written(files / 'out') == ['pred/a.png', 'pred/b.png', 'scores.json']
    captured = capsys.readouterr()
    assert '2 of 3 images' in captured.out
    assert (captured.out + captured.err).count('aa.png') == 1
    assert 'aa.png does not decode as an image' in captured.err
    arguments = [files / 'one' / 'aa.png', files / 'config.py', files / 'more.pth']
    assert infer(*arguments, '--out-dir', files / 'none', '--device', 'cpu') == 1
    captured = capsys.readouterr()
    assert '0 of 1 images' in captured.out and 'next:' not in captured.out


def test_confidence(infer, files):
    curve = dict(edges=[0, 1], values=[0.6])
    path = files / 'curves.json'
    curves = dict(seg=dict(pixel=curve, image=curve))
    path.write_text(json.dumps(dict(version=1, confidence=curves)))
    arguments = [files / 'two', files / 'config.py', files / 'more.pth', '--no-pictures']
    arguments += ['--out-dir', files / 'out', '--device', 'cpu', '--confidence-maps']
    assert infer(*arguments) == 0
    assert written(files / 'out') == ['confidence/c.png', 'pred/c.png', 'scores.json']
    raw = json.loads((files / 'out' / 'scores.json').read_text())['c']
    assert 0 < raw['image_confidence'] < 1 and raw['image_confidence'] != 0.6
    assert infer(*arguments, '--calibration', path) == 0
    calibrated = json.loads((files / 'out' / 'scores.json').read_text())['c']
    assert calibrated == dict(raw, image_confidence=0.6)
    assert set(np.unique(Image.open(files / 'out/confidence/c.png'))) == {153}


@pytest.mark.parametrize('limit, worked', [('150', [10, 15]), ('none', None)])
def test_a_limit_of_pixels(infer, files, limit, worked):
    paths = [files / name for name in ('two', 'config.py', 'more.pth')]
    options = ['--out-dir', files / 'out', '--device', 'cpu', '--max-pixels', limit]
    assert infer(*paths, *options, '--crf') == 0
    scores = json.loads((files / 'out/scores.json').read_text())
    assert scores['c'].get('worked_size') == worked
    assert Image.open(files / 'out/pred/c.png').size == (30, 20)


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda a: a.__setitem__(0, 'nowhere.jpg'), 'the image nowhere.jpg does not exist'),
        (lambda a: a.__setitem__(1, 'nowhere.py'), 'config nowhere.py does not exist'),
        (
            lambda a: a.__setitem__(2, 'nowhere.pth'),
            'checkpoint nowhere.pth does not exist',
        ),
        (lambda a: a.extend(['--bkg', '3', '--source', 'lam']), 'bkg must lie in [0, 1)'),
        (
            lambda a: a.extend(['--calibration', 'nowhere.json', '--source', 'lam']),
            'there is no calibration file nowhere.json',
        ),
        (lambda a: a.extend(['--background', 'calibrated']), "take source='lam'"),
        (lambda a: a.extend(['--max-pixels', '0']), 'at least 1, or none, got'),
        (lambda a: a.extend(['--max-pixels', 'few']), 'at least 1, or none, got'),
        (lambda a: a.extend(['--cfg-options', 'model.pretraind=1']), 'pretraind'),
        (
            lambda a: a.extend(['--source', 'lam', '--classes', 'all']),
            "with source 'lam' take 'predicted'",
        ),
        (lambda a: a.extend(['--device', 'gpu']), "device 'gpu' cannot be used"),
        (lambda a: a.__setitem__(2, a[1]), 'does not read as a PyTorch checkpoint'),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(
    infer, files, mistake_of, edit, message
):
    arguments = [str(files / name) for name in ('one', 'config.py', 'more.pth')]
    arguments += ['--out-dir', str(files / 'out'), '--device', 'cpu']
    edit(arguments)
    assert message in mistake_of(infer, *arguments)
    assert not (files / 'out').exists()
