"""The affinity loss as an auxiliary head of a stock segmentor."""

import torch
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from torch.testing import assert_close

import stock_model
from mmseg_more.models import PatchAffinityHead
from mmseg_more.models.losses import PatchAffinityLoss

from mmseg.structures import SegDataSample

HEAD = dict(
    type='PatchAffinityHead', loss_decode=dict(type='PatchAffinityLoss', loss_weight=0.3)
)


def test_loss_is_that_of_labels_at_grid_size():
    data = stock_model.batch()
    maps = [torch.randn(2, 5, 4, 4), torch.randn(2, 5, 8, 8)]
    head = PatchAffinityHead()
    assert head(maps) is maps[1]
    # the middle of 8 x 8 pixels
    labels = torch.cat([s.gt_sem_seg.data[:, 4::8, 4::8] for s in data['data_samples']])
    assert_close(
        head.loss(maps, data['data_samples']),
        dict(loss_ptc=PatchAffinityLoss()(maps[1], labels)),
    )
    weighted = PatchAffinityHead(in_index=0, loss_decode=HEAD['loss_decode'])
    labels = torch.cat([s.gt_sem_seg.data[:, 8::16, 8::16] for s in data['data_samples']])
    assert_close(
        weighted.loss(maps, data['data_samples']),
        dict(loss_ptc=0.3 * PatchAffinityLoss()(maps[0], labels)),
    )


def test_ignored_label():
    samples = stock_model.batch()['data_samples']
    maps = [torch.randn(2, 5, 8, 8)]
    expected = PatchAffinityHead().loss(maps, samples)
    other = []
    for sample in samples:
        labels = sample.gt_sem_seg.data.clone()
        labels[labels == 255] = 9
        other.append(SegDataSample(gt_sem_seg=PixelData(data=labels)))
    assert_close(PatchAffinityHead(ignore_index=9).loss(maps, other), expected)


def test_in_an_encoder_decoder():
    model = stock_model.build(auxiliary_head=HEAD)
    assert [*model.auxiliary_head.parameters()] == []
    log = model.train_step(
        stock_model.batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    )
    assert log['aux.loss_ptc'] > 0
    assert log['loss'] > log['decode.loss_ce']


def test_one_of_several_in_bfloat16():
    """Computed in float32, whatever the network runs in."""
    fcn = dict(stock_model.config().decode_head, in_index=0)
    model = stock_model.build(auxiliary_head=[fcn, HEAD])
    data = model.data_preprocessor(stock_model.batch(), True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(**data, mode='loss')
    assert losses['aux_1.loss_ptc'].dtype is torch.float32
    assert 'aux_0.loss_ce' in losses
