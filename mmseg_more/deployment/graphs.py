"""MoRe as a function of images alone, in operations that exporters can follow."""

from typing import ClassVar, Tuple, Union

import torch
from torch import Tensor, nn

from .. import localization as L
from ..models.segmentors import MoRe
from ..models.structures import MAP_NAMES


class SegmentationGraph(nn.Module):
    """Images to segmentation logits, in one pass.

    Args:
        model: The segmentor; not copied. Its weights should be float32 and it should be in
            evaluation mode.
    """

    output_names: ClassVar[Tuple[str, ...]] = ('logits',)
    """Names of what :meth:`forward` returns."""

    def __init__(self, model: MoRe) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images, for every batch size, height and width.

        Args:
            images: ``(B, 3, H, W)``, both sides at least one patch.

        Returns:
            ``(B, K+1, H, W)``, index 0 is background.
        """
        patches = self.model.backbone(images, symbolic=True).patches
        return L.resize_map(self.model.decode_head([patches]), images.shape[-2:])

    @torch.no_grad()
    def expected(self, images: Tensor) -> Tuple[Tensor, ...]:
        """What the segmentor itself gives: :meth:`MoRe.encode_decode`."""
        return (self.model.encode_decode(images),)


class LocalizationGraph(nn.Module):
    """Images to the localization maps of one kind, and class scores.

    One scale: the images and their flips, in one pass.

    Args:
        model: As in :class:`SegmentationGraph`.
        source: Which maps: 'cam', 'lam', 'fused' or 'attention'. Defaults to 'lam'.

    Raises:
        ValueError: If there are no such maps.
    """

    output_names: ClassVar[Tuple[str, ...]] = ('maps', 'scores')
    """Names of what :meth:`forward` returns."""

    def __init__(self, model: MoRe, source: str = 'lam') -> None:
        super().__init__()
        if source not in MAP_NAMES:
            raise ValueError(
                f'source must be one of {", ".join(MAP_NAMES)}, got {source!r}'
            )
        self.model = model
        self.source = source

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Maps and scores of normalised images, for every batch size, height and width.

        Args:
            images: ``(B, 3, H, W)``, both sides at least one patch.

        Returns:
            Maps ``(B, K, H, W)`` and scores ``(B, K)``, both in [0, 1], of all K
            classes (background is none of them).
        """
        with_flip = torch.cat([images, images.flip(-1)])
        tokens = self.model.backbone(with_flip, self.source == 'attention', symbolic=True)
        maps = []
        for kind in ('lam', 'cam') if self.source == 'fused' else (self.source,):
            image, flip = _halves(self.model.localizer.raw_map(kind, tokens))
            merged = L.merge_flip(image, flip, images.shape[-2:])
            maps.append(L.normalize_maps(merged.relu() if kind == 'cam' else merged))
        logits, _ = self.model.image_logits(tokens)
        result = L.fuse_maps(*maps) if self.source == 'fused' else maps[0]
        return result, _halves(logits)[0].sigmoid()

    @torch.no_grad()
    def expected(self, images: Tensor) -> Tuple[Tensor, ...]:
        """What the segmentor itself gives: :meth:`MoRe.localize` and its scores."""
        maps = getattr(self.model.localize(images), self.source)
        logits, _ = self.model.image_logits(self.model.extract_feat(images))
        return maps, logits.sigmoid()


DeployedGraph = Union[SegmentationGraph, LocalizationGraph]
"""What can be exported."""


def _halves(values: Tensor) -> Tuple[Tensor, ...]:
    """Of the images and of the flips; ``chunk`` of a dynamic batch has no ONNX graph."""
    return values.unflatten(0, (2, -1)).unbind()
