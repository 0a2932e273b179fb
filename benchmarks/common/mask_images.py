"""Images, and what a network says about them: what masks are made of."""

from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_more.masks import (
    ClassProbabilities,
    map_probabilities,
    mask_dataloader,
    seg_probabilities,
)
from mmseg_more.models.structures import MASK_SCALES, SEG_SCALES, LocalizationRequest

from mmseg.structures import SegDataSample

from .workload import adapt_config, build_model, image_size

NOISE_SIZE = (375, 500)
NOISE_CLASSES = 20
_COARSE = (24, 32)  # the grid of the ViT on such an image
_NUM_STRONG = 3


class MaskImage(NamedTuple):
    """An image and what the network says about it."""

    name: str
    pixels: np.ndarray
    """RGB, uint8 ``(H, W, 3)``."""
    values: Tensor
    """Maps ``(K, H, W)``, or segmentation logits ``(K+1, H, W)``."""
    present: Optional[Tensor]
    """Indices of the classes of the image label; None for logits."""

    def probabilities(self) -> ClassProbabilities:
        """As the pipeline takes them: of maps, the present classes alone."""
        if self.present is None:
            return seg_probabilities(self.values)
        return map_probabilities(self.values, self.present)

    def all_probabilities(self) -> ClassProbabilities:
        """The plain way: channels of all classes, 0 where a class is not present."""
        if self.present is None:
            return seg_probabilities(self.values)
        kept = torch.zeros_like(self.values)
        kept[self.present] = self.values[self.present]
        return map_probabilities(kept, range(len(kept)))


ImageSource = Callable[[], Iterator[MaskImage]]
"""Gives the same images each time; running the network is part of it."""


def mask_request(source: str) -> LocalizationRequest:
    """Ask for the map or the segmentation of masks, and for nothing else.

    Args:
        source: 'cam', 'lam', 'fused' or 'seg'.
    """
    if source == 'seg':
        return LocalizationRequest((), (), (), (), SEG_SCALES)
    return LocalizationRequest((source,), (), (), MASK_SCALES, ())


def test_images(
    cfg: Config, model: nn.Module, source: str, limit: Optional[int] = None
) -> ImageSource:
    """The test data of a config, one image after the other through the network.

    Args:
        cfg: With ``test_dataloader``; it is loaded in this process.
        model: The segmentor.
        source: As in :func:`mask_request`.
        limit: Number of images at most.
    """
    loader = mask_dataloader(cfg, 'test', with_labels=source != 'seg')
    loader.update(num_workers=0, persistent_workers=False)
    if limit is not None:
        loader.dataset = dict(loader.dataset, indices=limit)
    loader = Runner.build_dataloader(loader)
    field = 'seg_logits_ms' if source == 'seg' else f'{source}_ms'

    def images() -> Iterator[MaskImage]:
        for batch in loader:
            for sample in _predict(model, batch, source):
                yield MaskImage(
                    sample.img_path,
                    mmcv.imread(sample.img_path, channel_order='rgb'),
                    sample.get(field).data,
                    None if source == 'seg' else sample.gt_label,
                )

    return images


def noise_images(
    cfg: Config, device: torch.device, count: int, size: Tuple[int, int] = NOISE_SIZE
) -> ImageSource:
    """Images of noise, the worst case for the CRF: all pixels differ.

    The network of ``cfg`` with random weights and 20 classes runs on each (at the
    size of the training crops, for the time that it takes), but its output would be
    as random; the probabilities come from :func:`realistic_logits`.
    """
    cfg = adapt_config(cfg, num_classes=NOISE_CLASSES)
    model = build_model(cfg, device).eval()
    network_size = image_size(cfg)

    def images() -> Iterator[MaskImage]:
        for index in range(count):
            generator = torch.Generator().manual_seed(index)
            pixels = torch.randint(
                0, 256, (*size, 3), generator=generator, dtype=torch.uint8
            )
            image = F.interpolate(pixels.permute(2, 0, 1)[None].float(), network_size)[
                0
            ].byte()
            sample = SegDataSample(
                metainfo=dict(img_shape=network_size, ori_shape=network_size)
            )
            _predict(model, dict(inputs=[image], data_samples=[sample]), 'seg')
            yield MaskImage(
                f'noise {index}', pixels.numpy(), realistic_logits(size, generator), None
            )

    return images


def realistic_logits(size: Tuple[int, int], generator: torch.Generator) -> Tensor:
    """Logits ``(21, H, W)`` such as a trained segmentation gives them.

    Smooth, from the grid of the network: the background and three classes share the
    image in blobs, all others are weak everywhere (0.2 % on average, up to some percent).
    """

    def blobs(count: int, *cells: int) -> Tensor:
        coarse = torch.randn(1, count, *cells, generator=generator)
        return F.interpolate(coarse, size=_COARSE, mode='bicubic')[0]

    logits = -4.5 + 0.5 * (
        blobs(NOISE_CLASSES + 1, 12, 16) + blobs(NOISE_CLASSES + 1, 6, 8)
    )
    strong = 1 + torch.randperm(NOISE_CLASSES, generator=generator)
    for index in (0, *strong[:_NUM_STRONG].tolist()):
        logits[index] = 1 + 3 * blobs(1, 5, 6)[0]
    return F.interpolate(logits[None], size=size, mode='bilinear')[0]


@torch.no_grad()
def _predict(model: nn.Module, batch: dict, source: str) -> List:
    model.localization_request = mask_request(source)
    return model.test_step(batch)
