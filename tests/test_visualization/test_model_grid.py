import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from torch.utils.data import Dataset

from golden import Golden, build_model, model_config
from mmseg_more.visualization import draw_model_grid
from mmseg_more.visualization.model_grid import COLUMNS, run_stages
from scripts import load_script

from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample

SIZE, ORIGINAL = (64, 64), (48, 80)


@DATASETS.register_module(force=True)
class TinyValidation(Dataset):
    """Random images, resized from another shape as in a real pipeline."""

    def __init__(self, num_classes, length=5):
        self.metainfo = dict(
            classes=('background', *(f'c{k}' for k in range(num_classes))),
            palette=[[9 * k, 255 - 9 * k, 0] for k in range(num_classes + 1)],
        )
        self.length = length
        self.opened = []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.opened.append(index)
        generator = torch.Generator().manual_seed(index)
        num_classes = len(self.metainfo['classes']) - 1
        sample = SegDataSample(
            metainfo=dict(img_path=f'{index}.jpg', ori_shape=ORIGINAL, img_shape=SIZE)
        )
        labels = torch.zeros(num_classes)
        labels[index % num_classes] = float(index > 0)  # the first has none
        sample.set_field(labels, 'gt_score')
        truth = torch.full((1, *ORIGINAL), index % num_classes + 1)
        sample.gt_sem_seg = PixelData(data=truth * int(index > 0))
        return dict(
            inputs=torch.randint(
                0, 256, (3, *SIZE), dtype=torch.uint8, generator=generator
            ),
            data_samples=sample,
        )


@pytest.fixture(scope='module')
def golden():
    return Golden('inference')


@pytest.fixture(scope='module')
def model(golden):
    return build_model(golden).eval()


def test_stages_at_the_original_size(model):
    data = TinyValidation(model.num_classes)[1]
    stages = run_stages(model, data)
    assert stages.image.shape == (*ORIGINAL, 3)
    assert list(stages.maps) == ['attention', 'cam', 'lam']
    assert list(stages.labels) == list(COLUMNS[-3:])
    for value in (*stages.maps.values(), *stages.labels.values()):
        assert value.shape == ORIGINAL
    # only the class of the image label, background and ignored
    assert set(np.unique(stages.labels['training label'])) <= {0, 2, 255}
    assert (stages.labels['truth'] == 2).all()
    assert model.localization_request is None


def test_image_is_the_one_that_went_in(model):
    """RGB, whatever order the pipeline loads."""
    data = TinyValidation(model.num_classes)[1]
    data['inputs'][0], data['inputs'][1:] = 250, 10  # blue in BGR
    image = run_stages(model, data).image
    assert np.abs(image.astype(int) - [10, 10, 250]).max() <= 1


def test_padding_is_cut_off(model):
    data = TinyValidation(model.num_classes)[1]
    plain = run_stages(model, data)
    preprocessor = model.data_preprocessor
    preprocessor.test_cfg, before = dict(size=(80, 96)), preprocessor.test_cfg
    try:
        padded = run_stages(model, data)
    finally:
        preprocessor.test_cfg = before
    assert (padded.image == plain.image).all()
    assert padded.labels['training label'].shape == ORIGINAL


def test_grid(model):
    dataset = TinyValidation(model.num_classes)
    picture = draw_model_grid(model, dataset, [0, 3], tile=60)
    assert dataset.opened == [0, 3]
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 4 + len(COLUMNS) * 60
    assert picture.shape[0] > 2 * 60


def test_data_without_truth(model):
    data = TinyValidation(model.num_classes)[1]
    del data['data_samples'].gt_sem_seg
    with pytest.raises(ValueError, match='needs gt_sem_seg'):
        run_stages(model, data)


@pytest.mark.slow
def test_command(model, golden, repo_root, tmp_path, capsys):
    command = load_script(repo_root / 'tools/analysis/draw_grid.py')
    cfg = model_config(golden.meta)
    cfg.val_dataloader = dict(
        batch_size=1, dataset=dict(type='TinyValidation', num_classes=model.num_classes)
    )
    cfg.dump(tmp_path / 'config.py')
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'iter.pth')
    out = tmp_path / 'new' / 'grid.png'
    arguments = [
        str(tmp_path / 'config.py'),
        str(tmp_path / 'iter.pth'),
        str(out),
        '--device',
        'cpu',
    ]
    command.main([*arguments, '--num', '2'])
    assert '2 images of 5' in capsys.readouterr().out
    assert cv2.imread(str(out)).shape[1] == 4 + len(COLUMNS) * 160

    arguments[1] = str(tmp_path / 'nothing.pth')
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert 'iter.pth' in capsys.readouterr().err
