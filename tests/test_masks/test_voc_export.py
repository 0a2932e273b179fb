import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image

import mask_run
from mmseg_more.engine.launch import use_tta
from mmseg_more.masks.voc_export import VOCExportHook, pack, use_voc_export

from mmseg.datasets import PascalVOCDataset

CLASSES = PascalVOCDataset.METAINFO['classes']
IMAGES = {
    '2008_000006': ((20, 30), ['cat']),
    '2008_000011': ((31, 17), []),
    '2008_000012': ((1, 24), ['cat', 'dog']),
}
FOLDER = 'results/VOC2012/Segmentation/comp6_test_cls'


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return mask_run.make_data(tmp_path_factory.mktemp('voc') / 'data', IMAGES, CLASSES)


def config(data, out, tta=False, **options):
    cfg = mask_run.config(data, CLASSES)
    cfg.test_dataloader.dataset.label_file = 'none.json'  # the server keeps them
    if tta:
        for step, side in zip(cfg.tta_pipeline[1].transforms[0], (48, 24, 32)):
            step.scale = (side, side)
        use_tta(cfg)
    use_voc_export(cfg, str(out), num_workers=0, **options)
    cfg.work_dir = str(data.parent / 'work')
    return cfg


def unpack(path):
    if path.suffix == '.zip':
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def labels(content):
    image = Image.open(io.BytesIO(content))
    assert image.mode == 'P'
    assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    return np.asarray(image)


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [
        dict(multi_scale=False),
        dict(scales=(1.0, 0.5)),
        dict(tta=True),
        dict(crf=dict(num_iters=2), scales=(1.0, 0.5)),
        dict(crf=True, tta=True),
    ],
)
def test_export(data, tmp_path, options):
    runner = mask_run.run(config(data, tmp_path / 'out.tgz', **options))
    found = unpack(tmp_path / 'out.tgz')
    assert set(found) == {f'{FOLDER}/{name}.png' for name in IMAGES}
    with torch.no_grad():
        samples = [runner.model.test_step(batch)[0] for batch in runner.test_dataloader]
    for sample in samples:
        name = mask_run.name_of(sample.img_path, data)
        mask = labels(found[f'{FOLDER}/{name}.png'])
        assert mask.shape == IMAGES[name][0] and mask.max() <= 20
        assert (tmp_path / 'out' / FOLDER / f'{name}.png').read_bytes() == found[
            f'{FOLDER}/{name}.png'
        ]
        if not options.get('crf') and 'scales' not in options:
            assert np.array_equal(mask, sample.pred_sem_seg.data[0])
    assert mask_run.manifest(tmp_path / 'out')['complete']


def test_zip_of_another_competition(data, tmp_path):
    mask_run.run(config(data, tmp_path / 'out.zip', competition='comp5', multi_scale=False))
    assert set(unpack(tmp_path / 'out.zip')) == {
        f'{FOLDER.replace("comp6", "comp5")}/{name}.png' for name in IMAGES
    }


@pytest.mark.parametrize('suffix', ['.tgz', '.zip'])
def test_same_masks_same_file(suffix):
    files = {'results/b': b'b', 'results/a': b'a' * 9}
    assert pack(files, suffix) == pack(dict(reversed(files.items())), suffix)


def test_missing_image(data, tmp_path):
    copy = mask_run.make_data(tmp_path / 'data', IMAGES, CLASSES)
    (copy / 'images/2008_000011.png').write_bytes(b'')
    with pytest.raises(RuntimeError, match='1 of 3 images have no mask.*2008_000011'):
        mask_run.run(config(copy, tmp_path / 'out.tgz', multi_scale=False))
    assert not (tmp_path / 'out.tgz').exists()


def test_extra_file(data, tmp_path):
    """Refused at once without a manifest, and at the end beside one."""
    archive, extra = tmp_path / 'out.tgz', tmp_path / 'out' / FOLDER / 'another.png'
    extra.parent.mkdir(parents=True)
    extra.write_bytes(b'')
    with pytest.raises(ValueError, match="how its 1 PNGs were made .'another.png'."):
        mask_run.run(config(data, archive, multi_scale=False))
    extra.unlink()
    mask_run.run(config(data, archive, multi_scale=False))
    assert len(unpack(archive)) == 3
    archive.unlink()
    extra.write_bytes(b'')
    with pytest.raises(ValueError, match="not of this split: 'another.png'; remove"):
        mask_run.run(config(data, archive, multi_scale=False))
    assert not archive.exists()


@pytest.mark.parametrize(
    'mode, value, size', [('P', 21, (20, 30)), ('L', 0, (20, 30)), ('P', 0, (20, 31))]
)
def test_mask_that_has_changed(data, tmp_path, mode, value, size):
    """In a folder whose manifest knows no hashes: others are made again."""
    mask_run.run(config(data, tmp_path / 'out.tgz', multi_scale=False))
    path = tmp_path / 'out' / FOLDER / '2008_000006.png'
    forget_hashes(tmp_path / 'out')
    image = Image.fromarray(np.full(size, value, np.uint8))
    if mode == 'P':
        image.putpalette([0] * 768)
    image.save(path)
    (tmp_path / 'out.tgz').unlink()
    with pytest.raises(ValueError, match='000006.png is not a palette PNG of 20x30'):
        mask_run.run(config(data, tmp_path / 'out.tgz', multi_scale=False))
    assert not (tmp_path / 'out.tgz').exists()
    path.write_bytes(b'half')
    with pytest.raises(ValueError, match='000006.png is no whole PNG.*delete it'):
        mask_run.run(config(data, tmp_path / 'out.tgz', multi_scale=False))
    path.unlink()
    mask_run.run(config(data, tmp_path / 'out.tgz', multi_scale=False))
    assert (tmp_path / 'out.tgz').exists()


def forget_hashes(folder):
    (manifest,) = folder.rglob('manifest.json')
    content = json.loads(manifest.read_text())
    for entry in content['images'].values():
        del entry['files']
    manifest.write_text(json.dumps(content))


def test_mask_that_has_changed_is_made_again(data, tmp_path):
    mask_run.run(config(data, tmp_path / 'out.tgz', multi_scale=False))
    path = tmp_path / 'out' / FOLDER / '2008_000006.png'
    mask = path.read_bytes()
    path.write_bytes(mask[:-20])
    (tmp_path / 'out.tgz').unlink()
    mask_run.run(config(data, tmp_path / 'out.tgz', multi_scale=False))
    assert path.read_bytes() == mask and (tmp_path / 'out.tgz').exists()


def test_classes_of_another_data_set(tmp_path):
    data = mask_run.make_data(tmp_path / 'data')
    cfg = mask_run.config(data)
    use_voc_export(cfg, str(tmp_path / 'out.tgz'))
    cfg.work_dir = str(tmp_path / 'work')
    with pytest.raises(ValueError, match="VOC's 20 classes.*2 others .'disk', 'star'"):
        mask_run.run(cfg)


def test_images_in_folders(tmp_path):
    data = mask_run.make_data(tmp_path / 'data', {'below/a': ((8, 8), [])}, CLASSES)
    with pytest.raises(ValueError, match="ID.png in one folder.*'below/a'"):
        mask_run.run(config(data, tmp_path / 'out.tgz'))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(out_file='results'), 'ends in one of .tgz, .tar.gz, .zip'),
        (dict(out_file='.zip'), 'ends in one of'),
        (dict(out_file='a.zip', competition='comp7'), 'competition must be one of'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        VOCExportHook(**arguments)
