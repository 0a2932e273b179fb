"""Data samples for the metric; a module of its own, so that other processes import it."""

import math
import os

import cv2
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from mmseg_more.evaluation import (
    BoundaryIoUMetric,
    LocalizationMetric,
    MaxBoxAccV2Metric,
    ObjectSizeIoUMetric,
    PointingGameMetric,
    ProtocolMetric,
    PxAPMetric,
    ReliabilityMetric,
)
from mmseg_more.models.structures import LocalizationRequest

from mmseg.registry import METRICS
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


def labelled_sample(truth, pred=None, maps=None, gt_score=None):
    """Of label maps ``(H, W)``, and of maps ``(K, H, W)`` by their names."""
    sample = SegDataSample(metainfo=dict(img_path='drawn.jpg'))
    sample.gt_sem_seg = PixelData(data=torch.as_tensor(truth)[None])
    if pred is not None:
        sample.pred_sem_seg = PixelData(data=torch.as_tensor(pred)[None])
    for name, value in (maps or {}).items():
        sample.set_field(PixelData(data=torch.as_tensor(value)), name)
    if gt_score is not None:
        sample.set_field(torch.as_tensor(gt_score), 'gt_score')
    return sample


def evaluate(metrics, samples, classes=CLASSES, batch_size=2):
    """What the metrics, configs or built, say of all samples."""
    metrics = metrics if isinstance(metrics, list) else [metrics]
    evaluator = Evaluator(
        [
            METRICS.build(metric) if isinstance(metric, dict) else metric
            for metric in metrics
        ]
    )
    evaluator.dataset_meta = dict(classes=classes)
    for start in range(0, len(samples), batch_size):
        evaluator.process(samples[start : start + batch_size])
    return evaluator.evaluate(len(samples))


def flood(mask):
    """Components of a mask in eight directions, each a set of (row, column)."""
    left = {(int(y), int(x)) for y, x in torch.as_tensor(mask).nonzero()}
    found = []
    while left:
        todo, component = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            component.add((y, x))
            for near in [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    todo.append(near)
        found.append(component)
    return found


def metrics():
    """One of each kind, fit for these samples."""
    found = dict(
        localization=LocalizationMetric(collect_device='cpu', bkg=0.4),
        protocols=ProtocolMetric(bkg=0.4, num_workers=1),
        boundary=BoundaryIoUMetric(sources=('seg', 'lam'), bkg=0.4),
        objects=ObjectSizeIoUMetric(sources=('seg', 'lam'), bkg=0.4, limits=(0.01, 0.05)),
        pixels=PxAPMetric(num_thresholds=10),
        boxes=MaxBoxAccV2Metric(num_thresholds=10),
        points=PointingGameMetric(tolerance=0),
        reliability=ReliabilityMetric(
            ('lam', 'fused'), bkg=0.4, num_workers=1, scales=(1.0, 0.5), crf=True
        ),
    )
    for name in ('protocols', 'reliability'):
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
