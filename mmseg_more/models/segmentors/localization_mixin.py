"""How MoRe's tokens become localization maps (MoRe, section 3.2)."""
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import localization as L
from ..structures import LocalizationMaps, Tokens


class TrainingCAMs(NamedTuple):
    """Normalised multi-scale CAMs of a training batch, ``(B, K, H, W)``."""

    cam: Tensor
    """Of the classifier, in [0, 1]."""
    cam_aux: Tensor
    """Of the auxiliary classifier, in [0, 1]."""


class LocalizationMixin:
    """Maps of the segmentor :class:`MoRe`, which holds the network."""

    def _tokens_with_flip(self, inputs: Tensor, scale: float,
                          with_attention: bool = False) -> Tokens:
        """Tokens of the scaled images, then of their flips (2B)."""
        images = L.resize_map(inputs,
                              L.scaled_size(inputs.shape[-2:], scale))
        return self.backbone(
            torch.cat([images, images.flip(-1)]), with_attention)

    def _image_logits(self, tokens: Tokens) -> Tuple[Tensor, Tensor]:
        """Logits ``(B, K)`` of both classifiers on max-pooled patches."""
        return tuple(
            classifier(F.adaptive_max_pool2d(patches, 1)).flatten(1)
            for classifier, patches in ((self.classifier, tokens.patches),
                                        (self.aux_classifier,
                                         tokens.aux_patches)))

    def _cams(self, tokens: Tokens) -> Tuple[Tensor, Tensor]:
        return (self.classifier(tokens.patches),
                self.aux_classifier(tokens.aux_patches))

    @torch.no_grad()
    def training_cams(self, inputs: Tensor, tokens: Tokens) -> TrainingCAMs:
        """Normalised multi-scale CAMs of a training batch (no gradient).

        The forward pass of the step serves scale 1; only its flip is run again.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            tokens: Their tokens.

        Returns:
            Final and auxiliary CAM, ``(B, K, H, W)`` in [0, 1].
        """
        size = inputs.shape[-2:]
        sums = [0., 0.]
        for scale in self.train_scales:
            if L.scaled_size(size, scale) == tuple(size):
                pairs = zip(
                    self._cams(tokens),
                    self._cams(self.backbone(inputs.flip(-1))))
            else:
                both = self._cams(self._tokens_with_flip(inputs, scale))
                pairs = (cam.chunk(2) for cam in both)
            for i, (cam, flipped) in enumerate(pairs):
                sums[i] = sums[i] + L.merge_flip(
                    cam.float(), flipped.float(), size).relu_()
        return TrainingCAMs(*(L.normalize_maps(s) for s in sums))

    @torch.no_grad()
    def localize(self,
                 inputs: Tensor,
                 scales: Sequence[float] = (1.0, ),
                 lam_scales: Optional[Sequence[float]] = None
                 ) -> LocalizationMaps:
        """Localization maps, the one way to get them (MoRe, section 3.2).

        One pass over image and flip per scale serves all maps.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            scales: Scales of the CAMs.
            lam_scales: Scales of LAM and raw attention; None for ``scales``.

        Returns:
            All maps, float32 ``(B, K, H, W)`` in [0, 1], of all K classes.

        Raises:
            ValueError: If a scale is not positive or makes the image smaller than
                a patch.
        """
        cam_scales = L.check_scales(scales, 'scales')
        lam_scales = cam_scales if lam_scales is None else L.check_scales(
            lam_scales, 'lam_scales')
        size = inputs.shape[-2:]
        sums: Dict[str, Tensor] = {}

        def add(name: str, maps: Tensor, relu: bool) -> None:
            merged = L.merge_flip(*maps.float().chunk(2), size)
            merged = merged.relu_() if relu else merged
            sums[name] = merged if name not in sums else sums[name] + merged

        for scale in dict.fromkeys(cam_scales + lam_scales):
            tokens = self._tokens_with_flip(inputs, scale, scale in lam_scales)
            if scale in cam_scales:
                for name, cam in zip(('cam', 'cam_aux'), self._cams(tokens)):
                    add(name, cam, relu=True)
            if scale in lam_scales:
                lam = L.class_patch_similarity(
                    self.class_tokens(tokens), tokens.patches.float())
                add('lam', lam, relu=False)
                add('attention', tokens.attention, relu=False)
        maps = {name: L.normalize_maps(value) for name, value in sums.items()}
        return LocalizationMaps(
            fused=L.fuse_maps(maps['lam'], maps['cam']), **maps)
