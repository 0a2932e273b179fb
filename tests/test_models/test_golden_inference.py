"""Inference maps and segmentation against the reference figures."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch.testing import assert_close

from golden import Golden, build_model, normalize
from mmseg_more import localization as L
from mmseg_more.models.segmentors import MoReTTAModel

from mmseg.structures import SegDataSample

GOLDEN = Golden('inference')
CLOSE = dict(rtol=1e-5, atol=1e-5)
MASK_SCALES = (1, 0.5, 0.75, 1.25, 1.5, 1.75, 2)


@pytest.fixture(scope='module')
def model():
    return build_model(GOLDEN).eval()


@pytest.fixture(scope='module')
def inputs():
    return normalize(GOLDEN['image_u8'])


@torch.no_grad()
def test_single_pass(model, inputs):
    tokens = model.backbone(inputs, with_attention=True)
    logits, logits_aux = model.image_logits(tokens)
    assert_close(logits, GOLDEN['cls'], **CLOSE)
    assert_close(logits_aux, GOLDEN['cls_aux'], **CLOSE)
    assert_close(model._forward(inputs), GOLDEN['segs'], **CLOSE)
    assert_close(model.class_tokens(tokens), GOLDEN['tok'], **CLOSE)
    # raw products of hundreds: relative to the largest
    assert_close(
        tokens.attention,
        GOLDEN['attn_map'],
        rtol=1e-5,
        atol=1e-5 * GOLDEN['attn_map'].abs().max().item(),
    )


@pytest.mark.parametrize('suffix, scales', [('1', (1,)), ('ms', MASK_SCALES)])
def test_localize(model, inputs, suffix, scales):
    maps = model.localize(inputs, scales)
    assert_close(maps.cam[..., ::2, ::2], GOLDEN[f'cam.{suffix}'], **CLOSE)
    assert_close(maps.lam[..., ::2, ::2], GOLDEN[f'lam.{suffix}'], **CLOSE)
    assert_close(maps.fused, L.fuse_maps(maps.lam, maps.cam), **CLOSE)
    for values in maps:
        assert values.shape == (1, 20, 96, 128)
        assert values.min() >= 0 and values.max() <= 1


def test_localize_with_other_lam_scales(model, inputs):
    mixed = model.localize(inputs, (1.0, 0.5), lam_scales=(1.0,))
    assert_close(mixed.cam, model.localize(inputs, (1.0, 0.5)).cam)
    assert_close(mixed.lam, model.localize(inputs, (1.0,)).lam)
    assert not torch.allclose(mixed.lam, model.localize(inputs, (1.0, 0.5)).lam)


@torch.no_grad()
def test_flip_and_scale_merge(model, inputs):
    """The reference merges at grid size; ours un-flips and resizes first."""
    views, size = [], inputs.shape[-2:]
    for side in GOLDEN.meta['seg_sizes']:
        image = F.interpolate(
            inputs, size=(side, side), mode='bilinear', align_corners=False
        )
        for flip in (False, True):
            meta = dict(
                ori_shape=tuple(size),
                img_shape=(side, side),
                flip=flip,
                flip_direction='horizontal',
            )
            sample = SegDataSample(metainfo=meta)
            sample.gt_sem_seg = PixelData(data=torch.zeros(1, *size, dtype=torch.long))
            views += model.predict(image.flip(-1) if flip else image, [sample])
    merged = MoReTTAModel(module=model).merge_preds([views])[0]
    assert_close(merged.seg_logits.data[:, ::2, ::2], GOLDEN['seg.msflip'][0], **CLOSE)
    assert torch.equal(merged.pred_sem_seg.data[0], merged.seg_logits.data.argmax(0))
    assert 'gt_sem_seg' in merged
