"""MoReInferencer on images above ``max_pixels``."""

import json

import cv2
import numpy as np
import pytest
import torch

from golden import Golden, model_config
from mmseg_more.apis import MoReInferencer, make_settings
from mmseg_more.checkpoints import convert_official
from mmseg_more.masks import MAX_PIXELS, limited_pipeline

GOLDEN = Golden('inference')
SIZE, LOW = (60, 80), (30, 40)
LIMIT = 1200


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory):
    cfg = model_config(GOLDEN.meta)
    cfg.test_dataloader.dataset.pipeline[1].scale = (64, 48)
    weights = tmp_path_factory.mktemp('weights') / 'more.pth'
    torch.save(dict(state_dict=convert_official(GOLDEN.group('sd.'))), weights)
    return MoReInferencer(cfg, str(weights), device='cpu', show_progress=False)


@pytest.fixture
def image():
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def run(inferencer, image, **options):
    (result,) = inferencer.stream([image], max_pixels=LIMIT, **options)
    assert result.error is None
    return result


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(crf=True),
        dict(source='lam'),
        dict(source='lam', crf=True),
        dict(multi_scale=True, crf=True),
        dict(policy='predicted'),
    ],
)
def test_masks_have_the_size_of_the_image(inferencer, image, options):
    result = run(inferencer, image, confidence_maps=True, return_vis=True, **options)
    assert result.worked_size == LOW
    assert result.mask().shape == result.confidence_map.shape == SIZE
    assert result.picture.shape == (*SIZE, 3)
    assert result.sample.metainfo['ori_shape'] == SIZE
    assert result.sample.metainfo['worked_size'] == LOW
    again = run(inferencer, image, confidence_maps=True, return_vis=True, **options)
    assert np.array_equal(again.mask(), result.mask())
    assert np.array_equal(again.confidence_map, result.confidence_map)


def test_maps_and_logits_are_of_the_worked_size(inferencer, image):
    result = run(inferencer, image, maps=('lam',), keep_logits=True, return_vis=True)
    assert result.maps()['lam'].shape[-2:] == LOW
    assert result.sample.seg_logits.data.shape[-2:] == LOW
    assert result.picture is not None and result.mask().shape == SIZE


def test_up_to_the_limit_nothing_changes(inferencer, image):
    for options in (dict(), dict(source='lam', crf=True)):
        limited = inferencer(image, max_pixels=SIZE[0] * SIZE[1], **options)
        unlimited = inferencer(image, max_pixels=None, **options)
        assert np.array_equal(limited['predictions'], unlimited['predictions'])
        assert limited['image_confidence'] == unlimited['image_confidence']


def test_none_is_no_limit():
    assert make_settings().recipe.max_pixels == MAX_PIXELS
    assert make_settings(max_pixels=None).recipe.max_pixels is None
    assert make_settings(max_pixels=7, crf=None).recipe.max_pixels == 7


@pytest.mark.parametrize('wrong', [0, -5, '1000'])
def test_what_is_no_limit(inferencer, image, wrong):
    with pytest.raises(ValueError, match='max_pixels must be a whole number of at least 1'):
        inferencer(image, max_pixels=wrong)


def test_files(inferencer, image, tmp_path):
    cv2.imwrite(str(tmp_path / 'large.png'), image)
    cv2.imwrite(str(tmp_path / 'small.png'), image[:20, :20])
    paths = [str(tmp_path / f'{name}.png') for name in ('large', 'small')]
    inferencer(paths, out_dir=str(tmp_path / 'out'), max_pixels=LIMIT, crf=True)
    scores = json.loads((tmp_path / 'out/scores.json').read_text())
    assert scores['large']['worked_size'] == list(LOW)
    assert 'worked_size' not in scores['small']
    assert cv2.imread(str(tmp_path / 'out/pred/large.png'), 0).shape == SIZE


def test_too_little_memory(inferencer, image, tmp_path, monkeypatch):
    """It says what would do, and other images go on."""
    monkeypatch.setattr(limited_pipeline, 'free_bytes', lambda: 16 * 21 * 20 * 20)
    cv2.imwrite(str(tmp_path / 'large.png'), image)
    cv2.imwrite(str(tmp_path / 'small.png'), image[:20, :20])
    paths = [str(tmp_path / f'{name}.png') for name in ('large', 'small')]
    results = list(inferencer.stream(paths, max_pixels=None))
    assert results[1].error is None
    assert results[0].error == (
        f'{paths[0]}: 60x80 pixels would need about 0.00 GB of memory, and 0.00 GB are '
        'free: lower max_pixels to 400, or make room'
    )
