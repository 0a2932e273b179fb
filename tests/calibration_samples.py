"""Data samples to choose thresholds by; a module of its own, for other processes."""

import torch
from mmengine.structures import PixelData

from localization_samples import CLASSES, MAPS, REQUEST, K, make_sample
from mmseg_more.evaluation import CalibrationMetric

NUM_IMAGES = 11


def calibration_sample(seed):
    """Without truth; maps of the present classes around the segmentation."""
    sample = make_sample(seed)
    del sample.gt_sem_seg, sample.pred_sem_seg
    generator = torch.Generator().manual_seed(seed)
    indices = sample.gt_score.nonzero().flatten()
    logits = 3 * torch.randn(K + 1, 12, 9, generator=generator)
    sample.seg_logits = PixelData(data=logits)
    sample.set_data(dict(map_indices=indices))
    for name in MAPS:
        for suffix in ('', '_ms'):
            maps = torch.rand(len(indices), 12, 9, generator=generator)
            maps += 0.5 * (logits.argmax(0) == indices[:, None, None] + 1)
            sample.set_data({name + suffix: PixelData(data=maps / 1.5)})
    return sample.to_dict()


def build(path, **options):
    metric = CalibrationMetric(str(path), **options)
    metric.dataset_meta = dict(classes=CLASSES)
    metric.localization_request = REQUEST._replace(policy='image-labels')
    return metric


def evaluate(metric, num=NUM_IMAGES):
    for seed in range(num):
        metric.process(None, [calibration_sample(seed)])
    return metric.evaluate(num)


def calibrate_rank(rank, world_size, folder):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=world_size
    )
    per_rank = -(-NUM_IMAGES // world_size)
    indices = [i % NUM_IMAGES for i in range(per_rank * world_size)]
    metric = build(f'{folder}/two.json')
    for index in indices[rank::world_size]:
        metric.process(None, [calibration_sample(index)])
    metric.evaluate(NUM_IMAGES)
    torch.distributed.destroy_process_group()
