"""Merging of views, one after the other."""

import itertools
import weakref

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch.testing import assert_close

from mmseg_more.models import MoReTTAModel

from mmseg.structures import SegDataSample

SIZE = (6, 8)


class Segmentor(BaseModel):
    """Random logits for each view; remembers which of them are still held."""

    def __init__(self):
        super().__init__()
        self.logits, self.alive, self.most = [], [], 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise NotImplementedError

    def test_step(self, data):
        results = []
        for sample in data['data_samples']:
            logits = torch.randn(4, *SIZE)
            self.logits.append(logits.clone())
            self.alive.append(weakref.ref(logits))
            sample.seg_logits = PixelData(data=logits)
            results.append(sample)
        self.most = max(self.most, sum(ref() is not None for ref in self.alive))
        return results


class Pairs(Segmentor):
    """Takes inputs and data samples as a pair."""

    def test_step(self, data):
        return super().test_step(dict(data_samples=data[1]))


def views(sides, flips, scale_first=True):
    pairs = itertools.product(sides, flips)
    if not scale_first:
        pairs = ((side, flip) for flip in flips for side in sides)
    samples = []
    for side, flip in pairs:
        meta = dict(img_shape=(side, side), ori_shape=SIZE, flip=flip)
        samples.append([SegDataSample(metainfo=meta) for _ in range(2)])
    for batch in samples:
        for sample in batch:
            sample.gt_sem_seg = PixelData(data=torch.zeros(1, *SIZE, dtype=torch.long))
    return dict(inputs=[None] * len(samples), data_samples=samples)


@pytest.mark.parametrize('scale_first', [True, False])
def test_sums_of_flips_and_maximum_over_scales(scale_first):
    model = MoReTTAModel(module=Segmentor())
    data = views((32, 48, 64), (False, True), scale_first)
    scales = [samples[0].img_shape[0] for samples in data['data_samples']]
    results = model.test_step(data)
    for image, result in enumerate(results):
        sums = {}
        for scale, logits in zip(scales, model.module.logits[image::2]):
            sums[scale] = sums.get(scale, 0) + logits
        expected = torch.stack(list(sums.values())).amax(0)
        assert_close(result.seg_logits.data, expected, rtol=0, atol=0)
        assert torch.equal(result.pred_sem_seg.data[0], expected.argmax(0))
        assert 'gt_sem_seg' in result and result.img_shape == (32, 32)


def test_views_are_not_kept():
    """Of each of two images: the maximum, the sum of a scale, and the new view."""
    model = MoReTTAModel(module=Segmentor())
    model.test_step(views(range(16, 96, 16), (False, True)))
    assert model.module.most == 2 * 3


def test_views_as_pairs_of_inputs_and_samples():
    """What a data loader without a collate function of dicts gives."""
    named = views((32, 48), (False, True))
    pairs = named['inputs'], named['data_samples']
    torch.manual_seed(0)
    expected = MoReTTAModel(module=Segmentor()).test_step(named)
    torch.manual_seed(0)
    for one, other in zip(MoReTTAModel(module=Pairs()).test_step(pairs), expected):
        assert_close(one.seg_logits.data, other.seg_logits.data, rtol=0, atol=0)
