"""Tools of the installed MMSegmentation that need no package of their own."""

import sys
import time

import cv2
import pytest
import torch
from mmengine.registry import DefaultScope

from mask_run import CLASSES, IMAGES, config, make_data, make_masks
from mmseg_more import __main__ as runner
from mmseg_more.datasets import ImageLevelDataset

from mmseg.registry import DATASETS

# the tools put pictures of all folders into one
IMAGES_OF_MMSEG = {name: image for name, image in IMAGES.items() if '/' not in name}


@DATASETS.register_module()
class ConfusedDataset(ImageLevelDataset):
    """confusion_matrix.py takes names from the class, not from the config."""

    METAINFO = dict(classes=CLASSES, palette=[[0, 0, 0], [200, 0, 0], [0, 200, 0]])


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A config with images, labels and masks, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp('mmseg_tools')
    with DefaultScope.overwrite_default_scope('mmseg'):
        data = make_data(folder / 'data', IMAGES_OF_MMSEG)
    cfg = config(data)
    make_masks(data, IMAGES_OF_MMSEG)
    for split in ('val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.type = 'ConfusedDataset'
        dataset.test_mode, dataset.data_prefix.seg_map_path = True, 'masks'
    cfg.load_from = None
    cfg.dump(folder / 'config.py')
    return folder


@pytest.fixture
def tool(files, monkeypatch, capsys):
    """Run one by name, in the folder of the config; what it prints."""
    monkeypatch.chdir(files)

    def tool(name, *arguments):
        monkeypatch.setattr(sys, 'argv', ['mmseg_more', name, *map(str, arguments)])
        with DefaultScope.overwrite_default_scope('mmseg'):
            try:
                runner.main()
            except SystemExit as end:
                assert not end.code
        return capsys.readouterr().out

    return tool


def test_print_config(tool):
    assert "type='MoRe'" in tool('print_config', 'config.py')


@pytest.mark.slow
def test_browse_dataset(tool, files):
    tool('browse_dataset', 'config.py', '--output-dir', 'pictures', '--not-show')
    assert {path.name for path in (files / 'pictures').iterdir()} == {
        f'{name}.png' for name in IMAGES_OF_MMSEG
    }
    picture = cv2.imread(str(files / 'pictures/b.png'))
    assert (picture == 255).all(-1).any()  # names are white


@pytest.mark.slow
def test_predictions_and_confusion_matrix(tool, files):
    tool('test', 'config.py', 'data/weights.pth', '--work-dir', 'work', '--out', 'pred')
    tool('confusion_matrix', 'config.py', 'pred', 'matrix')
    assert (files / 'matrix/confusion_matrix.png').stat().st_size > 0


@pytest.mark.slow
def test_benchmark(tool, files):
    out = tool('benchmark', 'config.py', 'data/weights.pth', '--work-dir', 'speed')
    assert 'Average fps' in out


@pytest.mark.slow
def test_publish_model(tool, files):
    tool('publish_model', 'data/weights.pth', 'more.pth')
    end = time.time() + 60  # it does not wait for the `mv` that it ends with
    while (files / 'more.pth').exists() and time.time() < end:
        time.sleep(0.05)
    (published,) = files.glob('more-*.pth')
    weights = torch.load(published, weights_only=True)['state_dict']
    assert weights.keys() == torch.load(files / 'data/weights.pth')['state_dict'].keys()
