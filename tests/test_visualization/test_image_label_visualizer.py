"""What is drawn of samples whose only truth is an image label."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from mmseg_more.visualization import ImageLabelVisualizer, list_names

from mmseg.registry import VISUALIZERS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer

META = dict(
    classes=('background', 'circle', 'star'), palette=[[0, 0, 0], [200, 0, 0], [0, 200, 0]]
)


def image(height=96, width=128):
    return np.full((height, width, 3), 100, np.uint8)


def sample(label=None, **masks):
    result = SegDataSample()
    if label is not None:
        result.set_field(torch.tensor(label, dtype=torch.int64), 'gt_label')
    for name, value in masks.items():
        mask = torch.full((1, 96, 128), value, dtype=torch.int64)
        result.set_data({name: PixelData(data=mask)})
    return result


@pytest.fixture
def draw(tmp_path):
    """The picture that is written to a file."""

    def draw(data_sample, visualizer=ImageLabelVisualizer, picture=None, **options):
        drawer = visualizer(vis_backends=None)
        drawer.dataset_meta = META
        path = str(tmp_path / 'out.png')
        if picture is None:
            picture = image()
        drawer.add_datasample('a', picture, data_sample, out_file=path, **options)
        return cv2.imread(path)[..., ::-1]

    return draw


@pytest.mark.parametrize(
    'label, names', [([0], ['circle']), ([0, 1], ['circle', 'star']), ([], ['(no class)'])]
)
@pytest.mark.parametrize('array', [False, True])
def test_names_of_the_label(draw, label, names, array):
    data_sample = sample(label)
    if array:  # as browse_dataset.py gives it
        data_sample = data_sample.numpy()
    assert (draw(data_sample) == list_names(image(), names)).all()


def test_a_prediction_beside_it(draw):
    picture = draw(sample([1], pred_sem_seg=2))
    assert picture.shape == (96, 256, 3)
    assert (picture[:, :128] == list_names(image(), ['star'])).all()
    alone = draw(sample([1], pred_sem_seg=2), SegLocalVisualizer, draw_gt=False)
    assert (picture[:, 128:] == alone).all()


def test_a_small_image_with_a_prediction(draw):
    small = sample([0])
    small.set_data(dict(pred_sem_seg=PixelData(data=torch.ones(1, 20, 10).long())))
    picture = draw(small, picture=image(20, 10))
    assert picture.shape[0] > 20 and picture.shape[1] == picture.shape[0]


@pytest.mark.parametrize(
    'data_sample',
    [
        sample([0], gt_sem_seg=1),
        sample([0], gt_sem_seg=1, pred_sem_seg=2),
        sample(pred_sem_seg=2),
    ],
)
def test_masks_are_drawn_as_by_the_parent(draw, data_sample):
    assert (draw(data_sample) == draw(data_sample, SegLocalVisualizer)).all()


def test_without_the_truth(draw):
    data_sample = sample([0], pred_sem_seg=1)
    picture = draw(data_sample, draw_gt=False)
    assert (picture == draw(data_sample, SegLocalVisualizer, draw_gt=False)).all()


def test_backends_get_it_with_its_step(monkeypatch):
    drawer = VISUALIZERS.build(dict(type='ImageLabelVisualizer', name='test_backends'))
    drawer.dataset_meta = META
    added = []
    monkeypatch.setattr(drawer, 'add_image', lambda *arguments: added.append(arguments))
    drawer.add_datasample('a', image(), sample([1]), step=7)
    ((name, picture, step),) = added
    assert (name, step) == ('a', 7)
    assert (picture == list_names(image(), ['star'])).all()


def test_names_fit_into_any_image():
    names = ['a very long name of a class', *'abcdefghi']
    picture = list_names(image(10, 20), names)
    height, width = picture.shape[:2]
    assert height % 10 == 0 and width == 2 * height
    assert (picture[-1] == 100).all() and (picture[:, -1] == 100).all()  # nothing is cut
    assert (list_names(image(), []) == image()).all()
