"""What MoRe.predict puts on the data samples."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmseg_more.localization.present import predicted_classes
from mmseg_more.models import LocalizationRequest
from tiny_model import batch, tiny_model

from mmseg.structures import SegDataSample


def test_predict():
    model = tiny_model().eval()
    inputs, _ = batch([1, 0, 0], [0, 1, 0])
    samples = [
        SegDataSample(metainfo=dict(ori_shape=(50, 40), img_shape=(64, 64)))
        for _ in range(2)
    ]
    with torch.no_grad():
        results = model.predict(inputs, samples)
    for result in results:
        assert result.pred_sem_seg.data.shape == (1, 50, 40)
        assert result.seg_logits.data.shape == (4, 50, 40)
        assert result.pred_score.shape == (3,)
        assert torch.equal(result.pred_label, (result.pred_score > 0.5).nonzero().flatten())
        assert 'cam' not in result
    model.localization_request = LocalizationRequest(
        maps=('cam', 'attention'), cam_scales=(1.0, 0.5)
    )
    results = model.predict(inputs, samples)
    maps = model.localize(inputs, (1.0, 0.5), (1.0,))
    for i, result in enumerate(results):
        assert result.cam.data.shape == result.attention.data.shape == (3, 50, 40)
        assert 'lam' not in result
        expected = torch.nn.functional.interpolate(
            maps.cam[i : i + 1], size=(50, 40), mode='bilinear'
        )[0]
        assert_close(result.cam.data, expected)


def test_a_request_runs_every_pass_once():
    model = tiny_model().eval()
    inputs, _ = batch([1, 0, 0], [0, 1, 0])
    meta = dict(ori_shape=(64, 64), img_shape=(64, 64))
    samples = [SegDataSample(metainfo=meta) for _ in range(2)]
    with torch.no_grad():
        plain = model.predict(inputs, [s.clone() for s in samples])
    model.localization_request = LocalizationRequest(
        cam_scales=(1.0, 0.5),
        lam_scales=(1.0,),
        ms_scales=(1.0, 0.5, 1.5),
        seg_scales=(1.0, 1.5, 2.0),
    )
    sizes = []
    hook = model.backbone.register_forward_pre_hook(
        lambda module, args: sizes.append(tuple(args[0].shape))
    )
    with torch.no_grad():
        results = model.predict(inputs, [s.clone() for s in samples])
    hook.remove()
    # image and flip of two images, at each of the scales that occur
    assert sorted(sizes) == [(4, 3, side, side) for side in (32, 64, 96, 128)]

    seed = model.localize(inputs, (1.0, 0.5), (1.0,))
    multi = model.localize(inputs, (1.0, 0.5, 1.5))
    for i, (result, expected) in enumerate(zip(results, plain)):
        for name in ('cam', 'lam', 'fused'):
            assert_close(result.get(name).data, getattr(seed, name)[i])
            assert_close(result.get(f'{name}_ms').data, getattr(multi, name)[i])
        assert_close(
            result.seg_logits.data, expected.seg_logits.data, rtol=1e-5, atol=1e-5
        )  # another batch size
        assert_close(result.pred_score, expected.pred_score)
        assert result.seg_logits_ms.data.shape == (4, 64, 64)
        assert not torch.allclose(
            result.seg_logits_ms.data, 2 * expected.seg_logits.data, atol=1e-2
        )


@torch.no_grad()
def test_scales_of_the_segmentation_need_not_be_those_of_maps():
    model = tiny_model().eval()
    inputs, _ = batch([1, 0, 0])
    meta = dict(ori_shape=(64, 64), img_shape=(64, 64))
    model.localization_request = LocalizationRequest(
        maps=('fused',), cam_scales=(0.5,), lam_scales=(0.5,), seg_scales=(1.0, 1.5)
    )
    (result,) = model.predict(inputs, [SegDataSample(metainfo=meta)])
    assert 'cam' not in result and 'lam' not in result
    assert_close(result.fused.data, model.localize(inputs, (0.5,)).fused[0])
    logits = []
    for side in (64, 96):
        image = F.interpolate(inputs, size=(side, side), mode='bilinear')
        both = model._forward(image) + model._forward(image.flip(-1)).flip(-1)
        logits.append(F.interpolate(both, size=(64, 64), mode='bilinear'))
    assert_close(result.seg_logits_ms.data, torch.maximum(*logits)[0], rtol=1e-5, atol=1e-5)


def test_classes_of_an_image_without_labels():
    scores = torch.tensor([[0.1, -1.0, 2.0], [-1.0, -1.0, -1.0], [-1.0, -2.0, -3.0]])
    labels = torch.zeros(3, 4, 4, dtype=torch.long)
    labels[:, 0] = 2  # 4 patches
    labels[1, 1, 0] = 2  # one more
    logits = F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    present = predicted_classes(scores, logits)
    assert present.tolist() == [
        [True, False, True],
        [False, True, False],
        [False, False, False],
    ]


def test_predict_without_data_samples():
    inputs, _ = batch([1, 0, 0])
    with torch.no_grad():
        (result,) = tiny_model().eval().predict(inputs)
    assert result.pred_sem_seg.data.shape == (1, 64, 64)


def test_predict_cuts_padding_off():
    model = tiny_model().eval()
    inputs, _ = batch([1, 0, 0])
    meta = dict(ori_shape=(64, 48), img_shape=(64, 48), img_padding_size=(0, 16, 0, 0))
    with torch.no_grad():
        (result,) = model.predict(inputs, [SegDataSample(metainfo=meta)])
        logits = model.encode_decode(inputs)[0, :, :, :48]
    assert_close(result.seg_logits.data, logits)


@pytest.mark.parametrize('direction, axis', [('horizontal', -1), ('vertical', -2)])
def test_maps_are_unflipped_and_cut(direction, axis):
    model = tiny_model().eval()
    model.localization_request = LocalizationRequest(maps=('cam',))
    inputs, _ = batch([1, 0, 0])
    meta = dict(
        ori_shape=(60, 48),
        img_padding_size=(0, 16, 4, 0),
        flip=True,
        flip_direction=direction,
    )
    with torch.no_grad():
        (result,) = model.predict(inputs, [SegDataSample(metainfo=meta)])
    cam = model.localize(inputs).cam[0, :, 4:, :48]
    assert torch.equal(result.cam.data, cam.flip(axis))
