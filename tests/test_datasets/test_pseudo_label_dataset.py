"""PseudoLabelDataset: the masks of PseudoLabelHook as training data."""

import json
import shutil

import numpy as np
import pytest

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
