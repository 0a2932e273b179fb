"""What MoRe.predict puts on the data samples."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmseg_more.localization.present import predicted_classes
from mmseg_more.models import LocalizationRequest
from mmseg_more.models.segmentors.original_shape import labels_at_original, to_original
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


def test_autocast():
    """Whatever the network runs in, results have the precision of thresholds."""
    model = tiny_model().eval()
    inputs, _ = batch([1, 0, 0], [0, 1, 0])
    model.localization_request = LocalizationRequest(
        maps=('cam', 'lam', 'fused', 'attention'), ms_scales=(1.0, 0.5), seg_scales=(1.0,)
    )
    with torch.no_grad():
        exact = model.predict(inputs)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            results = model.predict(inputs)
    for result, expected in zip(results, exact):
        fields = ['seg_logits', 'seg_logits_ms']
        for name in model.localization_request.maps:
            fields += [name, f'{name}_ms'] if f'{name}_ms' in expected else [name]
        for name in fields:
            assert result.get(name).data.dtype == torch.float32, name
            # bfloat16 has eight bits; maps divide by the range of the similarities
            assert_close(result.get(name).data, expected.get(name).data, rtol=0, atol=0.1)
            # more values than eight bits can tell apart
            assert len(result.get(name).data.unique()) > 1000, name


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


@torch.no_grad()
@pytest.mark.parametrize('padding', [(0, 0, 0, 0), (0, 8, 0, 16)])
def test_the_maximum_over_scales_is_taken_at_the_original_size(padding):
    """From the sum of image and flip at the size of the grid, resized once."""
    model = tiny_model().eval()
    inputs, _ = batch([1, 0, 0])
    meta = dict(ori_shape=(90, 131), img_shape=(64, 64), padding_size=padding)
    model.localization_request = LocalizationRequest(maps=(), seg_scales=(1.0, 1.5))
    (result,) = model.predict(inputs, [SegDataSample(metainfo=meta)])
    logits = []
    for side in (64, 96):
        image = F.interpolate(inputs, size=(side, side), mode='bilinear')
        both = model._forward(image) + model._forward(image.flip(-1)).flip(-1)
        if any(padding):  # it can be cut off at the size of the input alone
            both = F.interpolate(both, size=(64, 64), mode='bilinear')[..., :48, :56]
        logits.append(F.interpolate(both, size=(90, 131), mode='bilinear'))
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


META = dict(ori_shape=(50, 40), img_shape=(64, 64))


def predicted(model, request, samples, inputs):
    model.localization_request = request
    return model.predict(inputs, [sample.clone() for sample in samples])


@pytest.mark.parametrize('policy', ['image-labels', 'predicted'])
@pytest.mark.parametrize('padding', [{}, dict(img_padding_size=(0, 16, 0, 0))])
@torch.no_grad()
def test_maps_of_the_classes_that_are_asked_for(policy, padding):
    """They are those of a request for all; an image may have none."""
    model = tiny_model().eval()
    inputs, samples = batch([1, 0, 1], [0, 1, 0], [0, 0, 0])
    samples[1].pop('gt_label')  # gt_score says it too
    for sample in samples:
        sample.set_metainfo(dict(META, **padding))
    request = LocalizationRequest(
        maps=('cam', 'lam', 'fused', 'attention'),
        cam_scales=(1.0, 0.5),
        ms_scales=(0.5, 1.0),
        seg_scales=(1.0,),
    )
    every = predicted(model, request, samples, inputs)
    some = predicted(model, request._replace(policy=policy), samples, inputs)
    for i, (one, of_all) in enumerate(zip(some, every)):
        labels = [[0, 2], [1], []][i]
        expected = labels if policy == 'image-labels' else of_all.pred_label.tolist()
        assert one.map_indices.dtype == torch.int64
        assert one.map_indices.tolist() == expected
        assert 'map_indices' not in of_all
        for name in request.maps:
            for field in (name, f'{name}_ms'):
                assert one.get(field).data.shape == (len(expected), 50, 40)
                assert_close(
                    one.get(field).data,
                    of_all.get(field).data[expected],
                    rtol=1e-4,  # the scales are summed in another order
                    atol=1e-5,
                )
        assert_close(one.seg_logits_ms.data, of_all.seg_logits_ms.data)
        assert_close(one.pred_sem_seg.data, of_all.pred_sem_seg.data)


@torch.no_grad()
def test_channels_are_chosen_before_they_are_enlarged(monkeypatch):
    from mmseg_more.models.segmentors import more

    model = tiny_model().eval()
    inputs, samples = batch([0, 1, 0])
    samples[0].set_metainfo(META)
    enlarged = []
    monkeypatch.setattr(
        more,
        'to_original',
        lambda values, *args, **kwargs: (
            enlarged.append(len(values)),
            to_original(values, *args, **kwargs),
        )[1],
    )
    request = LocalizationRequest(maps=('cam',), policy='image-labels', logits=False)
    (result,) = predicted(model, request, samples, inputs)
    assert enlarged == [1] and result.cam.data.shape == (1, 50, 40)


def test_policies_that_cannot_be_followed():
    model = tiny_model().eval()
    inputs, samples = batch([0, 1, 0])
    with pytest.raises(ValueError, match="policy must be one of .*got 'some'"):
        predicted(model, LocalizationRequest(policy='some'), samples, inputs)
    sample = SegDataSample(metainfo=dict(META, img_path='a.jpg'))
    with pytest.raises(ValueError, match='gt_label.*a.jpg'):
        predicted(model, LocalizationRequest(policy='image-labels'), [sample], inputs)


@pytest.mark.parametrize('size', [(50, 40), (64, 64), (301, 203)])
@pytest.mark.parametrize(
    'meta',
    [
        {},
        dict(flip=True, flip_direction='horizontal'),
        dict(img_padding_size=(0, 16, 4, 0)),
    ],
)
@pytest.mark.parametrize('chunk_bytes', [1, 2 * 4 * 301 * 203, 2**26])
@torch.no_grad()
def test_labels_without_logits_are_the_argmax(monkeypatch, size, meta, chunk_bytes):
    from mmseg_more.models.segmentors import original_shape

    monkeypatch.setattr(original_shape, '_CHUNK_BYTES', chunk_bytes)
    model = tiny_model().eval()
    # many ties: the first class wins
    model.decode_head.conv_seg.weight.mul_(100).round_()
    inputs, _ = batch([1, 0, 0])
    samples = [SegDataSample(metainfo=dict(ori_shape=size, **meta))]
    (expected,) = predicted(model, None, samples, inputs)
    request = LocalizationRequest(maps=(), logits=False)
    (result,) = predicted(model, request._replace(logits=True), samples, inputs)
    (without,) = predicted(model, request, samples, inputs)
    assert 'seg_logits' not in without and result.seg_logits.data.shape == (4, *size)
    assert torch.equal(without.pred_sem_seg.data, result.seg_logits.data.argmax(0)[None])
    assert without.pred_sem_seg.data.dtype == expected.pred_sem_seg.data.dtype


def test_the_first_of_equal_logits_wins():
    logits = torch.tensor([1.0, 2.0, 2.0, 0.0, 2.0]).view(5, 1, 1).expand(5, 6, 7)
    labels = labels_at_original(logits, SegDataSample(), (12, 14))
    assert labels.shape == (1, 12, 14) and (labels == 1).all()
