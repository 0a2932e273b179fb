"""PseudoLabelDataset: the masks of PseudoLabelHook as training data."""

import json
import shutil

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from golden import ROOT
from mmseg_more.datasets import PseudoLabelDataset, VOCImageLevelDataset
from mmseg_more.files import palette_png

from mmseg.registry import DATASETS

VOC = list(VOCImageLevelDataset.METAINFO['classes'])
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]


@pytest.fixture
def pseudo(voc_root, tmp_path):
    """A folder as PseudoLabelHook leaves it; the truth and the labels are gone."""
    shutil.rmtree(voc_root / 'SegmentationClass')
    shutil.rmtree(voc_root / 'Annotations')
    folder = tmp_path / 'pseudo'
    folder.mkdir()
    for value, name in enumerate('abc'):
        mask = np.full((40, 50), value, np.uint8)
        (folder / f'{name}.png').write_bytes(palette_png(mask, [(0, 0, 0)] * 21))
    write_manifest(folder)
    return folder


def write_manifest(folder, **changes):
    manifest = dict(
        classes=VOC,
        complete=True,
        failed={},
        images={name: dict(classes=[]) for name in 'abc'},
    )
    (folder / 'manifest.json').write_text(json.dumps({**manifest, **changes}))


def build(voc_root, folder, **kwargs):
    return PseudoLabelDataset(
        str(folder), data_root=str(voc_root), pipeline=PIPELINE, **kwargs
    )


def test_pairs_images_with_masks(voc_root, pseudo, monkeypatch):
    monkeypatch.chdir(pseudo.parent)  # the folder is relative to the current one
    dataset = build(voc_root, 'pseudo')
    assert len(dataset) == 3 and dataset.metainfo['classes'] == tuple(VOC)
    for value, name in enumerate('abc'):
        info = dataset.get_data_info(value)
        assert info['img_id'] == name and 'gt_label' not in info
        assert info['img_path'].endswith(f'JPEGImages/{name}.jpg')
        item = dataset[value]
        assert item['inputs'].shape == (3, 40, 50)
        assert (item['data_samples'].gt_sem_seg.data == value).all()


def test_by_its_name_and_without_a_split(voc_root, pseudo):
    dataset = DATASETS.build(
        dict(
            type='PseudoLabelDataset',
            pseudo_dir=str(pseudo),
            data_root=str(voc_root),
            ann_file='',
            data_prefix=dict(img_path='JPEGImages'),
            pipeline=[],
        )
    )
    assert [info['img_id'] for info in map(dataset.get_data_info, range(3))] == list('abc')


def test_a_part_of_the_masks(voc_root, pseudo):
    (voc_root / 'ImageSets/Segmentation/train.txt').write_text('c\n')
    (pseudo / 'a.png').unlink()
    assert len(build(voc_root, pseudo)) == 1


def test_missing_folder_or_manifest(voc_root, pseudo, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match='labels .*nowhere does not exist: write '
        'the masks by `python tools/test.py .* --pseudo-labels DIR',
    ):
        build(voc_root, tmp_path / 'nowhere')
    (pseudo / 'manifest.json').unlink()
    with pytest.raises(FileNotFoundError, match='holds no manifest.json.*with_masks=True'):
        build(voc_root, pseudo)


@pytest.mark.parametrize(
    'content, message',
    [('{"classes": ', 'is not valid JSON'), ('[]', 'is not the manifest')],
)
def test_wrong_manifest(voc_root, pseudo, content, message):
    (pseudo / 'manifest.json').write_text(content)
    with pytest.raises(ValueError, match=f'manifest.json {message}'):
        build(voc_root, pseudo)


def test_interrupted(voc_root, pseudo):
    """What the manifest does not list is not finished, file or not."""
    write_manifest(pseudo, complete=False, images={'b': {}, 'c': {}})
    (pseudo / 'c.png').unlink()
    with pytest.raises(
        FileNotFoundError,
        match="2 of 3 images have no finished mask in .*'a', 'c'.*the same command again",
    ):
        build(voc_root, pseudo)


def test_image_that_failed(voc_root, pseudo):
    write_manifest(pseudo, images={'a': {}, 'c': {}}, failed={'b': 'does not decode'})
    with pytest.raises(
        FileNotFoundError,
        match=r"1 of 3 .*'b' failed \(does not decode\)"
        '.*take an image that cannot be read out of the split',
    ):
        build(voc_root, pseudo)


def test_masks_of_other_classes(voc_root, pseudo):
    write_manifest(pseudo, classes=['background', 'cat'])
    with pytest.raises(ValueError, match='are of 2 classes .*, this data set has 21'):
        build(voc_root, pseudo)
    assert len(build(voc_root, pseudo, metainfo=dict(classes=('background', 'cat')))) == 3


@pytest.mark.parametrize(
    'classes',
    [('background', 'cat', 'dog'), tuple(VOC[:1] + VOC[:0:-1])],
    ids=['some', 'another order'],
)
def test_masks_of_some_of_vocs_classes(voc_root, pseudo, classes):
    """They count the classes of the manifest, which are those of the data set."""
    write_manifest(pseudo, classes=list(classes))
    dataset = build(voc_root, pseudo, metainfo=dict(classes=classes))
    for value in range(3):
        truth = dataset[value]['data_samples'].gt_sem_seg.data
        assert truth.unique().tolist() == [value]


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (7, 1)])
@pytest.mark.parametrize('config', ['shapes', 'voc12'])
def test_images_with_a_side_of_one_pixel(voc_root, pseudo, config, size):
    """Through the shipped pipelines of the second stage, training and validation."""
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(voc_root / 'JPEGImages/b.jpg')
    mask = np.full(size, 1, np.uint8)
    (pseudo / 'b.png').write_bytes(palette_png(mask, [(0, 0, 0)] * 21))
    cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/{config}_pseudo_labels.py')
    init_default_scope('mmseg')
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        dataset = PseudoLabelDataset(
            str(pseudo), data_root=str(voc_root), pipeline=pipeline
        )
        item = dataset[1]
        truth = item['data_samples'].gt_sem_seg.data
        # a crop is of the image's size, in validation the truth keeps that of the file
        training = pipeline is cfg.train_pipeline
        assert truth.shape == (1, *(item['inputs'].shape[1:] if training else size))
        assert (truth == 1).all()


def test_stock_loading_of_one_pixel_names_the_image(voc_root, pseudo):
    """With LoadAnnotations of MMSegmentation, which drops the side."""
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(voc_root / 'JPEGImages/b.jpg')
    (pseudo / 'b.png').write_bytes(
        palette_png(np.zeros((1, 1), np.uint8), [(0, 0, 0)] * 21)
    )
    dataset = PseudoLabelDataset(
        str(pseudo),
        data_root=str(voc_root),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmseg.LoadAnnotations'),
            dict(type='RandomResize', scale=(8, 8), ratio_range=(1, 2)),
        ],
    )
    with pytest.raises(ValueError, match=r"b.png has 1x1 pixels, .* dict\(type='LoadMask'"):
        dataset[1]


def test_mask_of_another_size(voc_root, pseudo):
    mask = np.zeros((4, 5), np.uint8)
    (pseudo / 'b.png').write_bytes(palette_png(mask, [(0, 0, 0)] * 21))
    dataset = PseudoLabelDataset(
        str(pseudo),
        data_root=str(voc_root),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='mmseg.LoadMask')],
    )
    with pytest.raises(ValueError, match=r'b.png has shape \(4, 5\), .*b.jpg \(40, 50\)'):
        dataset[1]
