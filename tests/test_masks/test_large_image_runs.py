"""Mask runs with images above ``max_pixels``."""

import io

import numpy as np
import pytest

import mask_run
from mask_run import IMAGES, manifest, mask_config, read_mask, run_masks
from mmseg_more.engine import launch
from mmseg_more.masks import (
    Calibration,
    ConfidenceCurves,
    limited_pipeline,
    use_pseudo_labels,
)
from mmseg_more.masks.large_images import worked_size

LIMIT = 500  # a, b, below/a and e have more
LARGE = {name for name, (size, _) in IMAGES.items() if np.prod(size) > LIMIT}


@pytest.fixture(scope='module')
def limited(data, tmp_path_factory):
    """A run with a CRF and all files beside the masks."""
    folder = tmp_path_factory.mktemp('limited') / 'masks'
    options = dict(crf=True, soft_maps=True, confidence_maps=True)
    run_masks(data, folder, max_pixels=LIMIT, **options)
    return folder


def test_every_file_has_the_size_of_its_image(limited):
    assert len(LARGE) == 4
    entries = manifest(limited)['images']
    assert manifest(limited)['settings']['max_pixels'] == LIMIT
    for name, (size, _) in IMAGES.items():
        assert read_mask(limited / f'{name}.png').shape == size
        assert read_mask(limited / 'confidence' / f'{name}.png').shape == size
        assert entries[name]['size'] == list(size)
        assert ('worked_size' in entries[name]) == (name in LARGE)
        if name in LARGE:
            assert tuple(entries[name]['worked_size']) == worked_size(size, LIMIT)
        soft = np.load(io.BytesIO((limited / 'soft' / f'{name}.npz').read_bytes()))
        assert soft['probs'].shape[1:] == (max(1, size[0] // 4), max(1, size[1] // 4))
        assert soft['size'].tolist() == list(size)


def test_it_is_the_same_each_time(data, limited, tmp_path):
    options = dict(crf=True, soft_maps=True, confidence_maps=True)
    run_masks(data, tmp_path / 'again', max_pixels=LIMIT, **options)
    assert mask_run.files(tmp_path / 'again') == mask_run.files(limited)


def test_confidence_is_calibrated_at_full_size(data, limited, tmp_path):
    """Background and classes by curves of their own."""
    curve = dict(edges=[0, 1], values=[0.2])
    curves = ConfidenceCurves.from_dict(
        dict(pixel=curve, image=curve, foreground=dict(curve, values=[0.8]))
    )
    Calibration(confidence=dict(lam=curves)).save(tmp_path / 'c.json')
    options = dict(crf=True, confidence_maps=True, calibration=str(tmp_path / 'c.json'))
    run_masks(data, tmp_path / 'masks', max_pixels=LIMIT, **options)
    for name in IMAGES:
        mask = read_mask(tmp_path / 'masks' / f'{name}.png')
        levels = read_mask(tmp_path / 'masks' / 'confidence' / f'{name}.png')
        assert np.array_equal(mask, read_mask(limited / f'{name}.png'))
        assert np.array_equal(levels, np.where(mask > 0, 204, 51))


def test_images_within_the_limit_are_as_without_one(data, limited, tmp_path):
    run_masks(data, tmp_path / 'all', crf=True, max_pixels=None)
    different = {
        name
        for name in IMAGES
        if (tmp_path / 'all' / f'{name}.png').read_bytes()
        != (limited / f'{name}.png').read_bytes()
    }
    assert different and different <= LARGE
    assert not any(
        'worked_size' in e for e in manifest(tmp_path / 'all')['images'].values()
    )


def test_the_default_changes_nothing(data, finished, tmp_path):
    """No image here is above it: the bytes are those of no limit, but for the settings."""
    run_masks(data, tmp_path / 'masks', max_pixels=None)
    for name in IMAGES:
        path = f'{name}.png'
        assert (tmp_path / 'masks' / path).read_bytes() == (finished / path).read_bytes()
    assert 'max_pixels' not in manifest(finished)['settings']


@pytest.mark.parametrize('limit, now', [(400, '400'), (None, 'None')])
def test_a_folder_has_one_limit(data, masks, limit, now):
    message = rf'settings.max_pixels is \(nothing\) there, {now} now'
    with pytest.raises(ValueError, match=message):
        run_masks(data, masks, max_pixels=limit)


def test_the_network_sees_the_lower_size(data, tmp_path):
    """Also where the pipeline does not resize."""
    cfg = mask_config(data, tmp_path / 'masks', max_pixels=LIMIT)
    del cfg.test_dataloader.dataset.pipeline[1]
    runner = mask_run._runner(cfg)
    seen = []
    runner.model.register_forward_pre_hook(
        lambda model, args, kwargs: seen.append(kwargs['inputs'].shape[-2:].numel()),
        with_kwargs=True,
    )
    # 17x23 and 1x40 are smaller than two patches: the network has to fail on them alone
    try:
        runner.test()
    except RuntimeError as error:
        assert 'images have no mask' in str(error)
    assert seen and max(seen) <= LIMIT
    for name in LARGE:
        assert read_mask(tmp_path / 'masks' / f'{name}.png').shape == IMAGES[name][0]


@pytest.mark.parametrize('crf', [False, True])
def test_test_time_augmentation(data, tmp_path, crf):
    cfg = mask_run.config(data)
    for views in cfg.tta_pipeline[1].transforms[0]:
        views.scale = (48, 48)
    launch.use_tta(cfg)
    use_pseudo_labels(
        cfg, str(tmp_path / 'masks'), max_pixels=LIMIT, crf=crf, num_workers=0
    )
    cfg.work_dir = str(tmp_path / 'work')
    mask_run.run(cfg)
    entries = manifest(tmp_path / 'masks')['images']
    assert {name for name, entry in entries.items() if 'worked_size' in entry} == LARGE
    for name, (size, _) in IMAGES.items():
        assert read_mask(tmp_path / 'masks' / f'{name}.png').shape == size


def test_the_hook_alone_limits_the_crf(data, tmp_path):
    cfg = mask_config(data, tmp_path / 'masks', max_pixels=LIMIT, crf=True)
    cfg.test_cfg = dict(type='TestLoop')
    mask_run.run(cfg)
    entries = manifest(tmp_path / 'masks')['images']
    assert {name for name, entry in entries.items() if 'worked_size' in entry} == LARGE
    for name, (size, _) in IMAGES.items():
        assert read_mask(tmp_path / 'masks' / f'{name}.png').shape == size


def test_too_little_memory_for_the_maps(data, tmp_path, monkeypatch):
    """An image that needs more than is free fails alone, before the network sees it."""
    free = 16 * 2 * 24 * 32  # two channels of the image a
    monkeypatch.setattr(limited_pipeline, 'free_bytes', lambda: free)
    with pytest.raises(RuntimeError) as error:
        run_masks(data, tmp_path / 'masks')
    assert '1 of 6 images have no mask' in str(error.value)
    assert (
        'b.png: MemoryError: 30x20 pixels would need about 0.00 GB of memory, and 0.00 GB '
        f'are free: lower max_pixels to {free * 600 // (16 * 3 * 600)}, or make room'
    ) in str(error.value)


@pytest.mark.parametrize('size', [(5, 400), (400, 5), (2000, 10)])
def test_extreme_shapes(tmp_path, size):
    images = {'x': (size, ['disk'])}
    data = mask_run.make_data(tmp_path / 'data', images=images)
    for crf in (False, True):
        folder = tmp_path / f'{crf}'
        run_masks(data, folder, crf=crf, max_pixels=LIMIT)
        assert read_mask(folder / 'x.png').shape == size
        assert manifest(folder)['images']['x']['worked_size'] == [*worked_size(size, LIMIT)]
