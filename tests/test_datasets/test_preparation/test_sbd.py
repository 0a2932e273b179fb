import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from field_datasets import SBD_LABELS, VOC_SIZE, write_sbd, write_voc
from mmseg_more.datasets.preparation import sbd
from mmseg_more.datasets.preparation.sbd import (
    find_sbd,
    read_sbd_mask,
    write_augmented_masks,
)


@pytest.fixture
def roots(tmp_path):
    return write_voc(tmp_path / 'VOC2012'), write_sbd(tmp_path / 'SBD')


def labels_of(folder):
    return {
        path.stem: np.unique(np.asarray(Image.open(path))).tolist()
        for path in folder.iterdir()
    }


def test_found_wherever_it_was_unpacked(roots, tmp_path):
    for folder in (roots[1], roots[1] / 'dataset'):
        assert list(find_sbd(folder)) == sorted(SBD_LABELS)
    (tmp_path / 'above').mkdir()
    roots[1].rename(tmp_path / 'above' / 'benchmark_RELEASE')
    assert list(find_sbd(tmp_path / 'above')) == sorted(SBD_LABELS)
    with pytest.raises(FileNotFoundError, match='VOC2012 holds no masks of SBD'):
        find_sbd(roots[0])


@pytest.mark.parametrize('num_workers', [0, pytest.param(2, marks=pytest.mark.slow)])
def test_masks_of_voc_come_first(roots, tmp_path, num_workers):
    voc, files = roots[0], find_sbd(roots[1])
    count = write_augmented_masks(files, voc, tmp_path / 'masks', num_workers)
    assert count == 4
    assert labels_of(tmp_path / 'masks') == {
        '2007_000001': [8],
        '2007_000002': [8],
        '2007_000003': [15],
        '2008_000005': [20],
    }
    assert all(Image.open(path).mode == 'P' for path in (tmp_path / 'masks').iterdir())


def test_goes_on_where_it_stopped(roots, tmp_path, monkeypatch):
    voc, files, out = roots[0], find_sbd(roots[1]), tmp_path / 'masks'
    content = files['2008_000005'].read_bytes()
    files['2008_000005'].write_bytes(content[:100])
    with pytest.raises(ValueError, match='2008_000005.mat does not read as a mask of SBD'):
        write_augmented_masks(files, voc, out, 0)
    assert sorted(labels_of(out)) == ['2007_000001', '2007_000002', '2007_000003']
    files['2008_000005'].write_bytes(content)
    read = []
    monkeypatch.setattr(
        sbd, 'read_sbd_mask', lambda path: read.append(path.stem) or read_sbd_mask(path)
    )
    assert write_augmented_masks(files, voc, out, 0) == 4
    assert read == ['2008_000005']


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(GTinst=1), 'does not read as a mask of SBD: KeyError'),
        (dict(GTcls=dict(Segmentation=np.full((2, 2), 21))), 'labels from 21 to 21'),
        (dict(GTcls=dict(Segmentation=np.full((2, 2), -1))), 'labels from -1 to -1'),
        (dict(GTcls=dict(Segmentation=np.zeros((2, 2)))), 'holds float64'),
        (dict(GTcls=dict(Segmentation=np.zeros((0, 2), int))), r'holds int64 \(0, 2\)'),
    ],
)
def test_other_files(tmp_path, content, message):
    savemat(tmp_path / 'a.mat', content)
    with pytest.raises(ValueError, match=f'a.mat {message}|a.mat .*{message}'):
        read_sbd_mask(tmp_path / 'a.mat')


def test_mask_of_another_size(roots, tmp_path):
    other = write_sbd(tmp_path / 'other', {'2008_000005': 1}, VOC_SIZE[::-1])
    with pytest.raises(ValueError, match='2008_000005.mat has 16x12 pixels, its image'):
        write_augmented_masks(find_sbd(other), roots[0], tmp_path / 'masks', 0)
    # masks do not wait for images that are broken
    (roots[0] / 'JPEGImages' / '2008_000005.jpg').write_bytes(b'')
    assert write_augmented_masks(find_sbd(other), roots[0], tmp_path / 'masks', 0) == 3
