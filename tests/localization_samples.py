"""Data samples for the metric; a module of its own, so that other processes import it."""

import math
import os

import cv2
import torch
from mmengine.structures import PixelData

from mmseg_more.evaluation import CalibrationMetric, LocalizationMetric, ProtocolMetric
from mmseg_more.models.structures import LocalizationRequest

from mmseg.structures import SegDataSample

CLASSES = ('background', 'circle', 'square', 'star')
K = len(CLASSES) - 1
MAPS = ('cam', 'lam', 'fused')


def make_sample(seed, size=(12, 9), maps=MAPS):
    """Random truth, prediction, scores and maps; 255 in the first row."""
    generator = torch.Generator().manual_seed(seed)
    sample = SegDataSample(metainfo=dict(img_path=f'{seed}.jpg', ori_shape=size))
    truth = torch.randint(0, K + 1, (1, *size), generator=generator)
    truth[:, 0] = 255
    pred = torch.where(
        torch.rand(truth.shape, generator=generator) < 0.6, truth.clamp(max=K), 0
    )
    sample.gt_sem_seg = PixelData(data=truth)
    sample.pred_sem_seg = PixelData(data=pred)
    sample.set_data(
        dict(
            gt_score=(torch.rand(K, generator=generator) < 0.7).float(),
            pred_score=torch.rand(K, generator=generator),
        )
    )
    for name in maps:
        # a multiple of .1, so that many values lie on a threshold
        value = torch.randint(0, 11, (K, *size), generator=generator) / 10
        sample.set_data({name: PixelData(data=value)})
    return sample


REQUEST = LocalizationRequest(MAPS, (1.0,), (1.0,), (1.0, 0.5), (1.0, 1.25))


def make_protocol_sample(seed, folder, size=(12, 9)):
    """With all that ProtocolMetric reads; the image lies in ``folder``."""
    sample = make_sample(seed, size)
    generator = torch.Generator().manual_seed(1000 + seed)
    image = torch.randint(0, 256, (*size, 3), generator=generator)
    path = f'{folder}/{seed}.png'
    if not os.path.exists(path):
        cv2.imwrite(path, image.numpy().astype('uint8'))
    sample.set_metainfo(dict(img_path=path, img_shape=(24, 18)))
    for name, strength in zip(MAPS, (0.3, 0.5, 0.8)):
        # near the truth, so that the CRF has something to find
        maps = torch.rand(K, *size, generator=generator)
        maps += strength * (sample.gt_sem_seg.data == torch.arange(1, K + 1)[:, None, None])
        sample.set_data({f'{name}_ms': PixelData(data=maps / maps.max())})
    logits = 2 * torch.randn(K + 1, *size, generator=generator)
    sample.seg_logits_ms = PixelData(data=logits)
    return sample


def metrics():
    """One of each kind, fit for these samples."""
    found = dict(
        localization=LocalizationMetric(collect_device='cpu', bkg=0.4),
        protocols=ProtocolMetric(bkg=0.4, num_workers=1),
        calibration=CalibrationMetric(
            ('lam', 'fused'), bkg=0.4, num_workers=1, scales=(1.0, 0.5), crf=True
        ),
    )
    for name in ('protocols', 'calibration'):
        found[name].localization_request = REQUEST
    for metric in found.values():
        metric.dataset_meta = dict(classes=CLASSES)
    return found


def evaluate_rank(rank, world_size, folder, num_images):
    """Score what a padding sampler gives to one rank; write FOLDER/RANK.pt."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=world_size
    )
    per_rank = math.ceil(num_images / world_size)
    indices = [i % num_images for i in range(per_rank * world_size)]
    figures = {}
    for name, metric in metrics().items():
        for index in indices[rank::world_size]:
            metric.process(None, [make_protocol_sample(index, folder).to_dict()])
        figures[name] = metric.evaluate(num_images)
    torch.save(figures, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()
