"""Data samples for the metric; a module of its own, so that other processes import it."""
import math

import torch
from mmengine.structures import PixelData

from mmseg_more.evaluation import LocalizationMetric
from mmseg.structures import SegDataSample

CLASSES = ('background', 'circle', 'square', 'star')
K = len(CLASSES) - 1
MAPS = ('cam', 'lam', 'fused')


def make_sample(seed, size=(12, 9), maps=MAPS):
    """Random truth, prediction, scores and maps; 255 in the first row."""
    generator = torch.Generator().manual_seed(seed)
    sample = SegDataSample(
        metainfo=dict(img_path=f'{seed}.jpg', ori_shape=size))
    truth = torch.randint(0, K + 1, (1, *size), generator=generator)
    truth[:, 0] = 255
    pred = torch.where(
        torch.rand(truth.shape, generator=generator) < .6,
        truth.clamp(max=K), 0)
    sample.gt_sem_seg = PixelData(data=truth)
    sample.pred_sem_seg = PixelData(data=pred)
    sample.set_data(
        dict(
            gt_score=(torch.rand(K, generator=generator) < .7).float(),
            pred_score=torch.rand(K, generator=generator)))
    for name in maps:
        # a multiple of .1, so that many values lie on a threshold
        value = torch.randint(0, 11, (K, *size), generator=generator) / 10
        sample.set_data({name: PixelData(data=value)})
    return sample


def evaluate_rank(rank, world_size, folder, num_images):
    """Score what a padding sampler gives to one rank; write FOLDER/RANK.pt."""
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/init',
        rank=rank,
        world_size=world_size)
    metric = LocalizationMetric(collect_device='cpu', bkg=.4)
    metric.dataset_meta = dict(classes=CLASSES)
    per_rank = math.ceil(num_images / world_size)
    indices = [i % num_images for i in range(per_rank * world_size)]
    for index in indices[rank::world_size]:
        metric.process(None, [make_sample(index).to_dict()])
    metrics = metric.evaluate(num_images)
    torch.save(metrics, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()
