"""From a folder of images to masks: check_dataset, make_config, train, test, infer."""

import json
import os
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from scripts import load_script


@pytest.fixture
def photos(tmp_path):
    """Twelve images in mixed forms, one that is broken, and their labels."""
    rng = np.random.default_rng(0)
    kinds = ['jpg', 'png', 'webp', 'bmp', 'tiff', 'gif']
    lines = ['image;labels']
    (tmp_path / 'photos' / 'roof').mkdir(parents=True)
    for index in range(12):
        name = f'{"roof/" if index % 4 == 0 else ""}{index:02d}.{kinds[index % 6]}'
        pixels = rng.integers(0, 256, (40, 56, 3), np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6 if index == 6 else 1
        Image.fromarray(pixels).save(tmp_path / 'photos' / name, exif=exif)
        lines.append(f'{name};{["cat", "dog", "", "cat,dog"][index % 4]}')
    gray = rng.integers(0, 4096, (40, 56)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / 'photos' / '07.png'), gray)
    (tmp_path / 'photos' / 'broken.jpg').write_bytes(b'\xff\xd8\xff')
    (tmp_path / 'labels.csv').write_text('\n'.join(lines) + '\n')
    return tmp_path


@pytest.fixture
def check(repo_root):
    return load_script(repo_root / 'tools/analysis/check_dataset.py').main


@pytest.fixture
def make(repo_root):
    return load_script(repo_root / 'tools/dataset_converters/make_config.py').main


def texts(folder, *more):
    return [str(folder / 'photos'), str(folder / 'labels.csv'), *map(str, more)]


def test_check(check, photos, capsys):
    assert check(texts(photos)) == 0
    captured = capsys.readouterr()
    assert "CSV, names, delimiter ';'" in captured.out
    assert "error: 1 image that cannot be read: 'broken.jpg" in captured.out
    assert captured.out.splitlines()[-1] == (
        f'next: python -m mmseg_more make_config {photos}/photos {photos}/labels.csv '
        '--out mine.py'
    )


def test_check_of_what_cannot_be_trained_on(check, photos, capsys):
    (photos / 'labels.csv').write_text('image,labels\n01,\n')
    assert check(texts(photos)) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == 'next: correct the labels, then run this again'


def test_make(make, photos, capsys):
    assert make(texts(photos, '--out', photos / 'mine.py', '--network', 'vit-t')) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 images are left out: 'broken'"
    assert lines[1].startswith(f'{photos}/mine.py: 2 classes, 10 images to train on, 2 to')
    assert lines[-1] == f'next: python -m mmseg_more train {photos}/mine.py'
    assert sorted(os.listdir(photos / 'mine')) == ['labels.json', 'train.txt', 'val.txt']
    labels = json.loads((photos / 'mine' / 'labels.json').read_text())
    assert labels['roof/00'] == ['cat'] and labels['02'] == [] and len(labels) == 12


def test_copies_of_images_with_masks_are_named(make, photos, capsys):
    """They are on neither side, as nothing could be learned from their validation."""
    labels = photos / 'labels.csv'
    for name in ('01', '07'):
        (photos / f'photos/{name}b.png').write_bytes(
            (photos / f'photos/{name}.png').read_bytes()
        )
        labels.write_text(labels.read_text() + f'{name}b.png;dog\n')
    (photos / 'masks').mkdir()
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(photos / 'masks' / '07.png')
    make(texts(photos, '--out', photos / 'mine.py', '--masks', photos / 'masks'))
    assert capsys.readouterr().out.splitlines()[1] == (
        '1 images without a mask are left out, as copies of images that are validated on: '
        "'07b'"
    )
    assert (photos / 'mine/val.txt').read_text() == '07\n'
    trained = (photos / 'mine/train.txt').read_text().split()
    assert len(trained) == 12 and {'01', '01b'} < set(trained) and '07b' not in trained


def test_next_commands_can_be_pasted(check, make, photos, repo_root, monkeypatch, capsys):
    """Whatever characters the paths have."""
    monkeypatch.chdir(photos)
    os.rename('photos', "my pho'tos; x")
    os.rename('labels.csv', 'la$bels.csv')

    def arguments(said):
        return shlex.split(said.splitlines()[-1])[5:]

    assert check(["my pho'tos; x", 'la$bels.csv']) == 0
    printed = arguments(capsys.readouterr().out)
    assert printed == ["my pho'tos; x", 'la$bels.csv', '--out', 'mine.py']
    make([*printed[:-1], 'my config.py'])
    assert arguments(capsys.readouterr().out) == ['my config.py']
    train = load_script(repo_root / 'tools/train.py')
    assert shlex.split(train._next_command('work dirs/a', 'my config.py'))[4:] == [
        'IMAGES',
        'work dirs/a/my config.py',
        'work dirs/a/CHECKPOINT',
    ]


def test_a_start_is_missed(make, photos, capsys):
    make(texts(photos, '--out', photos / 'mine.py'))
    assert 'without --pretrained the network starts' in capsys.readouterr().out


@pytest.mark.parametrize(
    'options, message',
    [
        (['--out', 'mine.txt'], 'the name of a config ends with .py'),
        (['--out', 'there.py'], 'there.py exists: give --out another name, or --over'),
        (['--out', 'a.py', '--val-share', '1'], '--val-share must lie between 0 and 1'),
        (['--out', 'a.py', '--val-share', '.99'], '0.99 leaves none of the 12 images to'),
        (['--out', 'a.py', '--classes', 'cat'], '--classes must name each class'),
    ],
)
def test_mistakes_write_nothing(make, photos, monkeypatch, capsys, options, message):
    monkeypatch.chdir(photos)
    (photos / 'there.py').write_text('mine')
    before = sorted(photos.rglob('*'))
    with pytest.raises(SystemExit) as stop:
        make(texts(photos, *options))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert sorted(photos.rglob('*')) == before
    assert (photos / 'there.py').read_text() == 'mine'


@pytest.mark.parametrize(
    'name, options, message',
    [
        ('train.txt', [], 'train.txt exists: give --out another name, or --overwrite'),
        ('labels.json', [], 'labels.json would be overwritten: give --out another name'),
        ('labels.json', ['--overwrite'], 'labels.json would be overwritten: give --out'),
    ],
)
def test_files_of_the_user_beside_the_images(make, photos, capsys, name, options, message):
    """The lists go to a folder that has the name of the config, as the images may."""
    images, file = photos / 'photos', photos / 'photos' / name
    file.write_text(json.dumps({'01.png': ['cat'], '02.webp': ['dog']}))
    before = file.read_bytes()
    labels = file if name == 'labels.json' else photos / 'labels.csv'
    with pytest.raises(SystemExit):
        make([str(images), str(labels), '--out', str(photos / 'photos.py'), *options])
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert file.read_bytes() == before
    assert not (photos / 'photos.py').exists()


def test_overwrite(make, photos):
    (photos / 'mine.py').write_text('mine')
    make(texts(photos, '--out', photos / 'mine.py', '--overwrite'))
    assert 'make_config' in (photos / 'mine.py').read_text()


# what makes it run in seconds
SMALL = """
model['backbone'] = dict(
    arch=dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32),
    img_size=64)
model['decode_head'] = dict(channels=16)
model['pretrained'] = None
model['losses'] = dict(seg=dict(begin=0), energy=dict(begin=0))
train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader.update(num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks['checkpoint']['interval'] = 2
default_hooks['health'].update(num_images=2, interval=0)
"""


@pytest.mark.slow
def test_train_test_and_infer(make, photos, repo_root):
    """Without any mask; what comes out has the names, sizes and turns of the images."""
    make(texts(photos, '--out', photos / 'mine.py', '--network', 'vit-t'))
    config = photos / 'mine.py'
    config.write_text(config.read_text().replace('(96, 96)', '(64, 64)') + SMALL)

    def run(tool, *arguments, status=0):
        result = subprocess.run(
            [sys.executable, repo_root / 'tools' / f'{tool}.py', *map(str, arguments)],
            cwd=photos,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert result.returncode == status, result.stdout[-3000:]
        return result.stdout.splitlines()

    lines = run('train', 'mine.py')
    checkpoint = photos / 'work_dirs/mine/iter_2.pth'
    assert lines[-1] == (
        f'next: python -m mmseg_more infer IMAGES {checkpoint.parent}/mine.py {checkpoint}'
    )
    (log,) = checkpoint.parent.glob('*/vis_data/scalars.json')
    figures = {name for line in log.read_text().splitlines() for name in json.loads(line)}
    assert {'multi-label/f1-score', 'multi-label/mAP', 'health/score'} <= figures
    assert list(checkpoint.parent.glob('best_health_score_*.pth'))

    lines = run('test', 'mine.py', checkpoint, '--tta')
    assert any('multi-label/mAP' in line for line in lines)
    lines = run('infer', 'photos', 'mine.py', checkpoint, '--out-dir', 'out', status=1)
    assert '12 of 13 images: out' in lines
    images = {p.relative_to(photos / 'photos') for p in (photos / 'photos').rglob('*.*')}
    assert len(images) == 13
    for path in (path for path in images if path.stem != 'broken'):
        mask = Image.open(photos / 'out/pred' / path.with_suffix('.png'))
        assert mask.size == ((40, 56) if path.stem == '06' else (56, 40))
