"""The template for images of one's own: copied, its settings changed, trained."""

import json
import subprocess
import sys

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from golden import ROOT

TEMPLATE = ROOT / 'configs/more/more_vit-b_custom.py'
LABELS = {'img_1': ['cat'], 'roof/img_2': ['cat', 'dog'], 'img_3': [], 'img_4': ['dog']}
# what makes it run in seconds; the numbers of classes and channels follow by themselves
SMALL = """
arch = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
model['backbone'] = dict(arch=dict(_delete_=True, **arch), img_size=64)
train_dataloader.update(num_workers=0, persistent_workers=False)
val_dataloader.update(num_workers=0, persistent_workers=False)
val_pipeline[1]['scale'] = (64, 64)
"""


@pytest.fixture
def data(tmp_path):
    """A folder as the template describes it, without any mask."""
    root = tmp_path / 'data' / 'mine'
    rng = np.random.default_rng(0)
    for name in LABELS:
        path = root / 'images' / f'{name}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8)).save(path)
    (root / 'labels.json').write_text(json.dumps(LABELS))
    (root / 'train.txt').write_text('\n'.join(LABELS))
    (root / 'val.txt').write_text('img_1\nimg_4\n')
    return root


def copy_template(folder, **settings):
    """A copy in another folder, with changed settings."""
    text = TEMPLATE.read_text().replace("'../_base_", f"'{ROOT}/configs/_base_")
    for name, value in settings.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f'{name} = ')]
        text = text.replace(line, f'{name} = {value!r}')
    path = folder / 'mine.py'
    path.write_text(text)
    return path


def test_settings_reach_every_part(tmp_path):
    classes = ('background', 'crack', 'rust', 'moss')
    cfg = Config.fromfile(copy_template(tmp_path, data_root='there', classes=classes))
    assert cfg.model.num_classes == 3
    for name in ('train', 'val', 'test'):
        dataset = cfg[f'{name}_dataloader'].dataset
        assert dataset.type == 'ImageLevelDataset'
        assert (dataset.data_root, dataset.metainfo.classes) == ('there', classes)


@pytest.mark.slow
@pytest.mark.parametrize('masks', [False, True], ids=['image labels alone', 'with masks'])
def test_trains_and_validates(tmp_path, data, masks):
    if masks:
        (data / 'masks').mkdir()
        for name, value in (('img_1', 1), ('img_4', 2)):
            mask = np.zeros((40, 56), np.uint8)
            mask[:20] = value
            Image.fromarray(mask).save(data / 'masks' / f'{name}.png')
    config = copy_template(tmp_path, max_iters=2, mask_folder='masks' if masks else None)
    config.write_text(config.read_text() + SMALL)
    result = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', config, '--cfg-options']
        + ['train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2'],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    work_dir = tmp_path / 'work_dirs/mine'
    assert (work_dir / 'iter_2.pth').is_file()
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    figures = json.loads(log.read_text().splitlines()[-1])
    assert ('multi-label/f1-score' in figures) is not masks
    assert ('lam/mIoU' in figures) is masks
