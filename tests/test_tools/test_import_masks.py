import json

import numpy as np
import pytest
from PIL import Image

from mmseg_more.files import palette_png
from scripts import load_script

COMMON = ['--from', 'voc', '--classes', 'cat', 'dog']


@pytest.fixture
def main(repo_root):
    return load_script(repo_root / 'tools/import_masks.py').main


@pytest.fixture
def masks(tmp_path):
    """Two masks, photos of both, labels of one."""
    for folder in ('masks', 'photos'):
        (tmp_path / folder).mkdir()
    labels = np.array([[0, 1, 2]], np.uint8)
    for name in 'ab':
        (tmp_path / 'masks' / f'{name}.png').write_bytes(palette_png(labels, [[0, 0, 0]]))
        Image.new('RGB', (3, 1)).save(tmp_path / 'photos' / f'{name}.jpg')
    (tmp_path / 'labels.csv').write_text('image,labels\na,cat;dog\n')
    return tmp_path


def test_a_folder_and_what_is_said(main, masks, capsys):
    arguments = ['--out', str(masks / 'out'), '--uncovered', 'ignore']
    assert main([str(masks / 'masks'), *COMMON, *arguments]) == 0
    printed = capsys.readouterr().out
    assert '2 corrected masks of voc' in printed
    assert f'train_dataloader.dataset.mask_file={masks / "out" / "masks.json"}' in printed
    content = json.loads((masks / 'out' / 'masks.json').read_text())
    assert content == dict(
        classes=['background', 'cat', 'dog'], masks=dict(a='a.png', b='b.png')
    )
    labels = np.asarray(Image.open(masks / 'out' / 'a.png'))
    assert labels.tolist() == [[255, 1, 2]]


def test_only_the_images_of_a_list(main, masks):
    (masks / 'list.txt').write_text('b.jpg\n\n')
    arguments = ['--out', str(masks / 'out'), '--ann-file', str(masks / 'list.txt')]
    assert main([str(masks / 'masks'), *COMMON, *arguments]) == 0
    content = json.loads((masks / 'out' / 'masks.json').read_text())
    assert content['masks'] == dict(b='b.png')


def test_mistakes_are_one_line(main, masks, mistake_of):
    path, out = str(masks / 'masks'), ['--out', str(masks / 'out')]
    labels = ['--labels', str(masks / 'labels.csv')]
    images = ['--images', str(masks / 'photos')]
    for arguments, message in (
        (['nowhere', *COMMON, *out], 'the folder of masks nowhere does not exist'),
        ([path, *COMMON, *out, *labels], '--labels needs --images'),
        ([path, *COMMON, *out, *labels, *images], "the image 'b' has no image labels"),
        ([path, '--from', 'voc', *out, '--classes', 'cat'], 'has label 2, the 1 classes'),
        ([path, *COMMON, '--out', path], 'exists: give another name, or delete it'),
    ):
        assert message in mistake_of(main, arguments)
    assert not (masks / 'out').exists()
