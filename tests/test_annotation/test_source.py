import json

import numpy as np
import pytest
from PIL import Image

from mmseg_more.annotation import MaskSource
from mmseg_more.files import palette_png


def edit(folder, change):
    path = folder / 'manifest.json'
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_least_certain_first_and_those_without_a_score_last(folder, truth, order):
    source = MaskSource(folder)
    masks = list(source)
    assert [mask.name for mask in masks] == order
    for mask in masks:
        np.testing.assert_array_equal(mask.labels, truth[mask.name])
    assert [region.name for region in masks[0].regions] == ['a horse', 'rare']
    assert [region.score for region in masks[-1].regions] == [0.75, None]
    assert masks[3].regions == []
    assert source.with_ignored == ['ignored']


def test_images_give_their_suffixes(folder, truth, tmp_path):
    for name in truth:
        path = tmp_path / 'photos' / f'{name}.webp'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (2, 2)).save(path)
    names = {mask.name: mask.image for mask in MaskSource(folder, tmp_path / 'photos')}
    assert names['roof/rings 1'] == 'roof/rings 1.webp'
    (tmp_path / 'photos' / 'single.webp').unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 5 images .* 'single'"):
        MaskSource(folder, tmp_path / 'photos')
    with pytest.raises(FileNotFoundError, match='does not exist'):
        MaskSource(folder, tmp_path / 'none')


def test_without_a_manifest(tmp_path):
    with pytest.raises(FileNotFoundError, match='no manifest.json: give a folder'):
        MaskSource(tmp_path)


def test_a_mask_that_has_changed_or_gone(folder):
    (folder / 'single.png').write_bytes(palette_png(np.ones((1, 5), np.uint8), [[0, 0, 0]]))
    with pytest.raises(ValueError, match=r'single.png has changed since'):
        list(MaskSource(folder))
    (folder / 'single.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'single.png is missing'):
        list(MaskSource(folder))


def test_manifests_that_do_not_fit(folder):
    def without_hashes(manifest):
        for entry in manifest['images'].values():
            del entry['files']

    edit(folder, without_hashes)
    assert len(list(MaskSource(folder))) == 5
    edit(folder, lambda manifest: manifest['classes'].pop())
    with pytest.raises(ValueError, match='has label 3, the 3 classes .* end at 2'):
        list(MaskSource(folder))
    edit(folder, lambda manifest: manifest['images']['single'].update(size=[5, 1]))
    with pytest.raises(ValueError, match='no mask of 8 bits and 5x1'):
        list(MaskSource(folder))
    edit(folder, lambda manifest: manifest['classes'].append('ignored'))
    with pytest.raises(ValueError, match='rename the class'):
        MaskSource(folder)
    edit(folder, lambda manifest: manifest.update(images={}))
    edit(folder, lambda manifest: manifest['classes'].pop())
    with pytest.raises(ValueError, match='no finished mask'):
        MaskSource(folder)
