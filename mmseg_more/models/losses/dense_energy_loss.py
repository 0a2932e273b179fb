"""Regularised loss (Tang et al., ECCV 2018): a dense CRF energy."""

from typing import Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.registry import MODELS

from ...localization.bilateral import BACKENDS, bilateral_energy
from ...localization.pseudo_label import IGNORE_INDEX
from .decode_head import refuse_pixel_weights
from .resized_rows import map_rows

_ENERGY_SCALE = 1e-7


@MODELS.register_module()
class DenseEnergyLoss(nn.Module):
    """Bilateral energy of the softmax segmentation, gated by confidence.

    ``-1e-7 sum(S . (gate K S)) / B`` on images scaled by ``scale_factor``;
    ``gate = 1 - max_k S``, set to 1 where the label is ignored, floored at 0.

    As the ``loss_decode`` of any head it needs
    :class:`~mmseg_more.engine.hooks.LossImagesHook`, which hands it the images.

    Args:
        sigma_rgb: Width of the kernel in colour, 8-bit levels. Defaults to 15.
        sigma_xy: Width in pixels of the full image. Defaults to 100.
        scale_factor: Size of the images in the energy. Defaults to 0.5.
        ignore_index: Label without a decision. Defaults to 255.
        backend: Who filters: ``'lattice'`` (tensor operations, any device),
            ``'pydensecrf'`` (on the CPU, image by image) or ``'auto'``, the faster one;
            see :func:`mmseg_more.localization.choose_backend`. Defaults to
            ``'auto'``.
        loss_weight: Factor of the loss. Defaults to 1.0.
        loss_name: Its key in the log of a decode head, to begin with 'loss'. Defaults to
            'loss_energy'.
    """

    resizes_logits = True
    """Tells :class:`MoRe` that logits at grid size are enough."""

    def __init__(
        self,
        sigma_rgb: float = 15.0,
        sigma_xy: float = 100.0,
        scale_factor: float = 0.5,
        ignore_index: int = IGNORE_INDEX,
        backend: str = 'auto',
        loss_weight: float = 1.0,
        loss_name: str = 'loss_energy',
    ) -> None:
        super().__init__()
        if min(sigma_rgb, sigma_xy, scale_factor) <= 0:
            raise ValueError(
                'sigma_rgb, sigma_xy and scale_factor must be > 0, got '
                f'{sigma_rgb}, {sigma_xy} and {scale_factor}'
            )
        if backend not in BACKENDS:
            raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
        self.sigma_rgb = sigma_rgb
        self.sigma_xy = sigma_xy
        self.scale_factor = scale_factor
        self.ignore_index = ignore_index
        self.backend = backend
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        images: Optional[Tensor] = None,
        *,
        weight: Optional[Tensor] = None,
        ignore_index: Optional[int] = None,
    ) -> Tensor:
        """Weighted loss.

        Args:
            logits: ``(B, K + 1, h, w)``; of another size than the images they are resized
                bilinearly (align_corners False), a few rows at a time.
            labels: int64 ``(B, H, W)``.
            images: ``(B, 3, H, W)``, 0 to 255, not truncated.
            weight: None: single pixels have no weights here.
            ignore_index: Label without a decision; None: that of the module.

        Returns:
            Scalar, at most 0.

        Raises:
            TypeError: Without images.
            ValueError: For weights.
        """
        if images is None:
            raise TypeError(
                'DenseEnergyLoss compares the segmentation with the image, which a decode '
                "head does not hand to its losses: add dict(type='LossImagesHook') to the "
                "config's custom_hooks"
            )
        refuse_pixel_weights(self, weight)
        ignore_index = self.ignore_index if ignore_index is None else ignore_index
        factor = self.scale_factor
        probs = _probabilities(logits.float(), images.shape[-2:], factor)
        images = F.interpolate(images, scale_factor=factor, mode='nearest')
        labels = F.interpolate(labels[:, None].float(), scale_factor=factor, mode='nearest')
        gate = 1 - probs.detach().amax(dim=1, keepdim=True)
        gate = gate.masked_fill(labels == ignore_index, 1.0).clamp(min=0)
        return self.loss_weight * bilateral_energy(
            probs,
            images,
            gate,
            self.sigma_rgb,
            self.sigma_xy * factor,
            _ENERGY_SCALE,
            self.backend,
        )


def _probabilities(logits: Tensor, size: Sequence[int], factor: float) -> Tensor:
    """Softmax of logits ``(B, K + 1, h, w)`` at image size, then scaled by ``factor``.

    Args:
        logits: Resized to image size where they have another.
        size: ``(H, W)`` of the images.
        factor: Of both sides.
    """

    def scaled(probs: Tensor) -> Tensor:
        return F.interpolate(
            probs, scale_factor=factor, mode='bilinear', align_corners=False
        )

    def of_rows(logits: Tensor, rows: slice) -> Tensor:
        probs = logits.softmax(dim=-1).permute(0, 3, 1, 2)
        return scaled(probs).permute(0, 2, 3, 1)

    if logits.shape[-2:] == torch.Size(size):
        return scaled(logits.softmax(dim=1))
    # A row of the result is made of 1 / factor rows, if that is a whole number.
    whole = (1 / factor).is_integer()
    multiple = int(1 / factor) if whole else int(size[0])
    return map_rows(of_rows, logits, size, multiple).permute(0, 3, 1, 2)
