"""tools/analysis/corrected_masks.py: which images are corrected, and the trainings."""

import json
import sys

import numpy as np
import pytest

from golden import ROOT
from mmseg_more.files import palette_png
from scripts import analysis_script

FULL = ROOT / 'configs/more/more_vit-t_shapes.py'
CLASSES = ['background', 'disk', 'rectangle', 'triangle', 'cross', 'ring', 'hexagon']
NAMES = [f'train_{index:05d}' for index in range(8)]

# The figures of a training: 10 for each corrected mask.
TRAINER = """
import json, os, sys
cfg = {}
exec(open(sys.argv[1]).read(), cfg)
path = cfg['train_dataloader']['dataset'].get('mask_file')
masks = json.load(open(path))['masks'] if path else {}
assert all(os.path.isabs(mask) and os.path.exists(mask) for mask in masks.values())
value = 10. * len(masks) + ('train_00007' in masks) + cfg['randomness']['seed']
figures = dict(mIoU=value, precision=value, recall=value, confusion_ratio=1.)
metrics = {f'{m}/{k}': v for m in ('seg', 'lam', 'cam') for k, v in figures.items()}
json.dump(metrics, open(cfg['val_evaluator']['out_json'], 'w'))
"""


@pytest.fixture(scope='module')
def tool():
    with analysis_script('corrected_masks') as script:
        yield script


@pytest.fixture
def study(tool, tmp_path, monkeypatch, capsys):
    """Run the command on eight images, the last of which is the least certain."""
    trainer = tmp_path / 'trainer.py'
    trainer.write_text(TRAINER)
    monkeypatch.setattr(tool.study_runs, 'TRAINER', (sys.executable, '-S', str(trainer)))
    data, masks = tmp_path / 'data', tmp_path / 'masks'
    for folder in (data / 'SegmentationClass', data / 'ImageSets/Segmentation', masks):
        folder.mkdir(parents=True)
    (data / 'ImageSets/Segmentation/train.txt').write_text('\n'.join(NAMES))
    images = {}
    for index, name in enumerate(NAMES):
        content = palette_png(np.zeros((4, 4), np.uint8), [[0, 0, 0]])
        (data / 'SegmentationClass' / f'{name}.png').write_bytes(content)
        images[name] = dict(size=[4, 4], image_confidence=1 - index / 10)
    manifest = dict(settings={}, checkpoint={}, failed={}, classes=CLASSES, images=images)
    (masks / 'manifest.json').write_text(json.dumps(manifest))

    def run(*arguments):
        command = [masks, '--work-dir', tmp_path / 'study', '--config', FULL, *arguments]
        options = ['--cfg-options', f'train_dataloader.dataset.data_root={data}']
        try:
            status = tool.main([str(word) for word in [*command, *options]])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    run.data, run.masks, run.folder = data, masks, tmp_path / 'study'
    return run


def corrected(study, row, seed):
    settings = json.loads((study.folder / row / f'seed{seed}' / 'run.json').read_text())
    path = settings['settings']['train_dataloader']['dataset'].get('mask_file')
    return sorted(json.loads(open(path).read())['masks']) if path else []


@pytest.mark.slow
def test_which_masks_are_corrected_and_what_it_says(study, tmp_path):
    report = tmp_path / 'report.md'
    arguments = ['--numbers', 0, 2, 4, '--seeds', 0, 1, '--markdown', report]
    arguments = ['--jobs', 2, *arguments]
    status, out, err = study(*arguments)
    assert status == 0, err
    for seed in (0, 1):
        assert corrected(study, 'none', seed) == []
        assert corrected(study, 'least-certain-2', seed) == NAMES[-2:]
        assert corrected(study, 'least-certain-4', seed) == NAMES[-4:]
        few, more = (corrected(study, f'random-{n}', seed) for n in (2, 4))
        assert len(few) == 2 and len(more) == 4 and set(few) < set(more)
    assert corrected(study, 'random-4', 0) != corrected(study, 'random-4', 1)
    text = report.read_text()
    assert text in out and '10 runs' in text and 'Missing' not in text
    cells = {line.split('|')[1].strip(): line for line in text.splitlines() if '|' in line}
    assert '| 2 | 21.5 ± 6.4 ' in cells['2 least certain']
    assert '+41.0 [+41.0, +41.0]' in cells['4 least certain - none']
    assert '4 least certain - random' in cells and '2 random - none' in cells

    status, out, _ = study(*arguments)
    assert status == 0 and '10 trainings, 10 have finished, 0 to run' in out
    status, out, _ = study(*arguments[:-4], '--seeds', 2, '--report')
    assert status == 2  # none of that seed


@pytest.mark.slow
def test_other_masks_are_other_settings(study):
    assert study('--numbers', 2, '--seeds', 0)[0] == 0
    manifest = json.loads((study.masks / 'manifest.json').read_text())
    manifest['images'][NAMES[0]]['image_confidence'] = 0.0
    (study.masks / 'manifest.json').write_text(json.dumps(manifest))
    status, _, err = study('--numbers', 2, '--seeds', 0)
    assert status == 2 and 'least-certain-2, seed 0 with other settings' in err


def test_mistakes(study):
    assert '--numbers are at least 0 and at most 8' in study('--numbers', 9)[2]
    assert 'has no true masks of 8 of 8 images' in study('--truth', study.masks)[2]
    split = study.data / 'ImageSets/Segmentation/train.txt'
    split.write_text('\n'.join(NAMES[1:]))
    assert '1 of 8 images with masks are not in' in study()[2]
    manifest = json.loads((study.masks / 'manifest.json').read_text())
    del manifest['images'][NAMES[0]]['image_confidence']
    (study.masks / 'manifest.json').write_text(json.dumps(manifest))
    assert 'does not say how certain the masks of 1 images are' in study()[2]
    assert not study.folder.exists()


def test_split_as_data_sets_read_it(tool, tmp_path):
    split = tmp_path / 'train.txt'
    split.write_bytes('\ufefffirst\r\nmy cat\r\nsub/dog.JPG\r\nv1.2\r\n'.encode())
    tool.check_split(['first', 'my cat', 'sub/dog', 'v1.2'], split)
    with pytest.raises(ValueError, match=r'1 of 2 images with masks .* \(.*my.*\)'):
        tool.check_split(['my', 'my cat'], split)
