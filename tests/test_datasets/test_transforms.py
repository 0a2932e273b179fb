from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from mmseg_more.datasets import (
    LoadAnyImage,
    PackImageLevelInputs,
    PILColorJitter,
    RandomRescale,
)

from mmseg.registry import TRANSFORMS

CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'


@pytest.fixture(autouse=True)
def _mmseg_scope():
    init_default_scope('mmseg')


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


class TestLoadAnyImage:
    def test_is_load_image_from_file_for_plain_images(self, tmp_path):
        path = str(tmp_path / 'a.png')
        cv2.imwrite(path, image(6, 7))
        steps = [
            TRANSFORMS.build(dict(type=name))
            for name in ('LoadAnyImage', 'LoadImageFromFile')
        ]
        ours, theirs = (step(dict(img_path=path)) for step in steps)
        np.testing.assert_array_equal(ours.pop('img'), theirs.pop('img'))
        assert ours == theirs

    def test_floats(self, tmp_path):
        cv2.imwrite(str(tmp_path / 'a.png'), image(6, 7))
        loaded = LoadAnyImage(to_float32=True)(dict(img_path=str(tmp_path / 'a.png')))
        assert loaded['img'].dtype == np.float32

    def test_no_image(self, tmp_path):
        (tmp_path / 'a.png').write_text('text')
        with pytest.raises(ValueError, match='a.png does not decode as an image'):
            LoadAnyImage()(dict(img_path=str(tmp_path / 'a.png')))


class TestPILColorJitter:
    def jitter(self, img, **ranges):
        return PILColorJitter(**ranges)(dict(img=img))['img']

    @pytest.mark.parametrize('turns', [-0.5, -1 / 3, -0.1, 0.1, 1 / 3])
    def test_hue_turns_both_ways(self, turns):
        red = np.zeros((4, 4, 3), np.uint8)
        red[..., 2] = 255  # BGR
        out = self.jitter(red, hue=(turns, turns))
        angle = 6 * (turns % 1)
        expected = [
            np.clip(abs((angle + shift) % 6 - 3) - 1, 0, 1) * 255 for shift in (2, 4, 0)
        ]
        # hue has 8 bits, a step moves a channel by 6, and both conversions round
        np.testing.assert_allclose(out[0, 0], expected, atol=12)

    def test_agrees_with_torchvision(self):
        from PIL import Image
        from torchvision.transforms import functional as F

        img = image(16, 16)
        pil = Image.fromarray(img[..., ::-1].copy())
        for name, adjust, factor in (
            ('brightness', F.adjust_brightness, 0.7),
            ('contrast', F.adjust_contrast, 1.3),
            ('saturation', F.adjust_saturation, 0.9),
            ('hue', F.adjust_hue, -0.07),
        ):
            expected = np.array(adjust(pil, factor))[..., ::-1]
            np.testing.assert_array_equal(
                self.jitter(img, **{name: (factor, factor)}), expected, err_msg=name
            )

    def test_input_is_not_edited(self):
        img = image(8, 8)
        before = img.copy()
        out = self.jitter(img, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        assert out.dtype == np.uint8 and out.flags.c_contiguous
        np.testing.assert_array_equal(img, before)


class TestRandomRescale:
    def test_both_sides_by_one_factor(self):
        for _ in range(20):
            out = RandomRescale((0.32, 1.0))(dict(img=image(100, 200)))
            height, width = out['img_shape']
            assert out['img'].shape == (height, width, 3)
            assert 32 <= height <= 100 and abs(width - 2 * height) <= 1
            assert out['scale_factor'] == (width / 200, height / 100)

    def test_never_below_a_pixel(self):
        out = RandomRescale((0.01, 0.01))(dict(img=image(3, 300)))
        assert out['img_shape'] == (1, 3)

    @pytest.mark.parametrize('ratio_range', [(0, 1), (1, 0.5), (-1, 1)])
    def test_bad_range(self, ratio_range):
        with pytest.raises(ValueError, match='0 < low <= high'):
            RandomRescale(ratio_range)


class TestPack:
    def test_without_labels(self):
        out = PackImageLevelInputs()(dict(img=image(5, 6), img_path='x'))
        assert out['inputs'].shape == (3, 5, 6)
        assert list(out['data_samples'].keys()) == []
        assert out['data_samples'].img_path == 'x'

    def test_label_order_and_shapes(self):
        out = PackImageLevelInputs()(
            dict(img=image(5, 6), gt_label=[0, 3], num_classes=4, img_shape=(5, 6, 3))
        )
        sample = out['data_samples']
        assert sample.gt_score.tolist() == [1.0, 0.0, 0.0, 1.0]
        assert sample.gt_label.dtype == torch.int64
        assert sample.img_shape == (5, 6)

    @pytest.mark.parametrize('size', [(1, 7), (7, 1), (1, 1)])
    def test_mask_of_an_image_of_one_row_or_column(self, size, tmp_path):
        import cv2

        mask = np.arange(np.prod(size), dtype=np.uint8).reshape(size)
        cv2.imwrite(str(tmp_path / 'mask.png'), mask)
        pipeline = Compose(
            [dict(type='LoadAnnotations'), dict(type='PackImageLevelInputs')]
        )
        out = pipeline(
            dict(
                img=image(*size),
                img_path='x',
                ori_shape=size,
                img_shape=size,
                seg_map_path=str(tmp_path / 'mask.png'),
                seg_fields=[],
                label_map=None,
                reduce_zero_label=False,
            )
        )
        np.testing.assert_array_equal(out['data_samples'].gt_sem_seg.data[0], mask)

    @pytest.mark.parametrize('shape', [(5, 6), (5, 6, 1), (5, 6, 4)])
    def test_channels(self, shape):
        with pytest.raises(ValueError, match=r'y.png has shape .* \(H, W, 3\)'):
            PackImageLevelInputs()(dict(img=np.zeros(shape, np.uint8), img_path='y.png'))


@pytest.mark.parametrize('config, side', [('voc12', 448), ('coco14', 448), ('shapes', 96)])
def test_training_pipelines(config, side):
    """Large, small and extremely narrow images all become crops."""
    cfg = Config.fromfile(CONFIGS / f'{config}_image_level.py')
    pipeline = Compose(cfg.train_pipeline[1:])
    np.random.seed(0)
    for seed, shape in enumerate([(500, 375), (5, 7), (1, 1), (640, 3), (480, 640)]):
        results = dict(
            img=image(*shape, seed), ori_shape=shape, gt_label=[1], num_classes=3
        )
        out = pipeline(results)
        assert out['inputs'].shape == (3, side, side)
        assert out['inputs'].dtype == torch.uint8
        assert out['data_samples'].img_shape == (side, side)
        assert out['data_samples'].gt_score.tolist() == [0.0, 1.0, 0.0]


def test_coco_pads_with_black_around_the_image():
    cfg = Config.fromfile(CONFIGS / 'coco14_image_level.py')
    crop = TRANSFORMS.build(cfg.train_pipeline[-2])
    out = crop(dict(img=np.full((100, 200, 3), 255, np.uint8)))['img']
    assert out.shape == (448, 448, 3)
    ys, xs = np.nonzero(out[..., 0])
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (174, 273, 124, 323)
    assert (out == 255).all(2).sum() == 100 * 200 and (out == 0).all(2).sum() > 0
