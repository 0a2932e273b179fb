"""Images, and what a network says about them: what masks are made of."""

from typing import Callable, Iterator, NamedTuple, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmseg_more.files import read_rgb
from mmseg_more.masks import MaskRecipe, mask_dataloader

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
    sample: SegDataSample
    """With what the recipe of the masks asks for."""
    num_classes: int
    """K, that of the network."""


ImageSource = Callable[[], Iterator[MaskImage]]
"""Gives the same images each time; running the network is part of it."""


def test_images(
    cfg: Config, model: nn.Module, recipe: MaskRecipe, limit: Optional[int] = None
) -> ImageSource:
    """The test data of a config, one image after the other through the network.

    Args:
        cfg: With ``test_dataloader``; it is loaded in this process.
        model: The segmentor.
        recipe: Of the masks, resolved: what the network is asked for.
        limit: Number of images at most.
    """
    loader = mask_dataloader(cfg, 'test', with_labels=recipe.policy == 'image-labels')
    loader.update(num_workers=0, persistent_workers=False)
    if limit is not None:
        loader.dataset = dict(loader.dataset, indices=limit)
    loader = Runner.build_dataloader(loader)

    def images() -> Iterator[MaskImage]:
        for batch in loader:
            for sample in _predict(model, batch, recipe):
                yield MaskImage(
                    sample.img_path, read_rgb(sample.img_path), sample, model.num_classes
                )

    return images


def noise_images(
    cfg: Config,
    device: torch.device,
    recipe: MaskRecipe,
    count: int,
    size: Tuple[int, int] = NOISE_SIZE,
) -> ImageSource:
    """Images of noise, the worst case for the CRF: all pixels differ.

    The network of ``cfg`` with random weights and 20 classes runs on each (at the
    size of the training crops, for the time that it takes), but its output would be
    as random; the segmentation comes from :func:`realistic_logits`.

    Args:
        cfg: Config of the model.
        device: Of the model and of the segmentation.
        recipe: Of masks of the segmentation at several scales, resolved.
        count: Number of images.
        size: ``(H, W)`` of the images.
    """
    model = build_model(adapt_config(cfg, num_classes=NOISE_CLASSES), device).eval()
    network_size = image_size(cfg)

    def images() -> Iterator[MaskImage]:
        for index in range(count):
            generator = torch.Generator().manual_seed(index)
            pixels = torch.randint(
                0, 256, (*size, 3), generator=generator, dtype=torch.uint8
            )
            scaled = F.interpolate(pixels.permute(2, 0, 1)[None].float(), network_size)
            sample = SegDataSample(
                metainfo=dict(img_shape=network_size, ori_shape=network_size)
            )
            batch = dict(inputs=[scaled[0].byte()], data_samples=[sample])
            _predict(model, batch, recipe)
            logits = realistic_logits(size, generator).to(device)
            sample = SegDataSample(metainfo=dict(ori_shape=size))
            sample.set_field(PixelData(data=logits), 'seg_logits_ms')
            yield MaskImage(f'noise {index}', pixels.numpy(), sample, NOISE_CLASSES)

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
def _predict(model: nn.Module, batch: dict, recipe: MaskRecipe) -> list:
    model.localization_request = recipe.request()
    return model.test_step(batch)
