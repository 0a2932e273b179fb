"""How MoRe's tokens become localization maps (MoRe, section 3.2)."""
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import localization as L
from ..structures import LocalizationMaps, LocalizationRequest, Tokens

Plan = Dict[str, Tuple[str, Tuple[float, ...]]]
"""Name of a result -> kind of map and the scales that are summed."""


class TrainingCAMs(NamedTuple):
    """Normalised multi-scale CAMs of a training batch, ``(B, K, H, W)``."""

    cam: Tensor
    """Of the classifier, in [0, 1]."""
    cam_aux: Tensor
    """Of the auxiliary classifier, in [0, 1]."""


class SharedPasses(NamedTuple):
    """What one set of multi-scale passes over a batch gives."""

    maps: Dict[str, Tensor]
    """Normalised maps ``(B, K, H, W)`` in [0, 1], by the names of the plan."""
    scores: Tensor
    """Image logits ``(B, K)`` of the images as they are."""
    segmentation: Tensor
    """Segmentation logits ``(B, K+1, h, w)`` of the images as they are."""
    segmentation_ms: Optional[Tensor]
    """Logits of image and flip summed, maximum over the scales,
    ``(B, K+1, H, W)``; None unless asked for."""


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
        maps = self._run_passes(
            inputs,
            dict(
                cam=('cam', cam_scales),
                cam_aux=('cam_aux', cam_scales),
                lam=('lam', lam_scales),
                attention=('attention', lam_scales)))
        return LocalizationMaps(
            fused=L.fuse_maps(maps['lam'], maps['cam']), **maps)

    @torch.no_grad()
    def shared_passes(self, inputs: Tensor,
                      request: LocalizationRequest) -> SharedPasses:
        """Everything that ``request`` asks for, each pass run once.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            request: Maps and scales.

        Returns:
            The maps by the field names of the request, and what the pass
            over the images as they are says besides.
        """
        fuse = 'fused' in request.maps
        plan: Plan = {}
        for suffix, cam_scales, lam_scales in (
            ('', request.cam_scales, request.lam_scales),
            ('_ms', request.ms_scales, request.ms_scales)):
            for name, scales in (('cam', cam_scales), ('lam', lam_scales),
                                 ('attention', lam_scales)):
                wanted = name in request.maps or fuse and name != 'attention'
                if wanted and scales:
                    plan[name + suffix] = (name, scales)
        segmentation = _Segmentation(self, inputs.shape[-2:],
                                     request.seg_scales)
        maps = self._run_passes(inputs, plan, segmentation)
        if fuse:
            for suffix in ('', '_ms'):
                if f'lam{suffix}' in maps:
                    maps[f'fused{suffix}'] = L.fuse_maps(
                        maps[f'lam{suffix}'], maps[f'cam{suffix}'])
        asked = {
            name + suffix
            for name in request.maps for suffix in ('', '_ms')
        }
        return SharedPasses(
            {name: value
             for name, value in maps.items() if name in asked},
            segmentation.scores, segmentation.logits, segmentation.merged)

    def _run_passes(self,
                    inputs: Tensor,
                    plan: Plan,
                    segmentation: Optional['_Segmentation'] = None
                    ) -> Dict[str, Tensor]:
        """Run every scale of ``plan`` once; normalised maps by their names."""
        size = inputs.shape[-2:]
        sums: Dict[str, Tensor] = {}
        scales = dict.fromkeys(s for _, some in plan.values() for s in some)
        if segmentation is not None:
            scales.update(dict.fromkeys((1., *segmentation.scales)))
        for scale in scales:
            due: Dict[str, list] = {}  # kind of map -> results it counts for
            for name, (kind, some) in plan.items():
                if scale in some:
                    due.setdefault(kind, []).append(name)
            tokens = self._tokens_with_flip(inputs, scale, 'attention' in due)
            if segmentation is not None:
                segmentation.add(tokens, scale)
            for kind, names in due.items():
                merged = L.merge_flip(
                    *self._raw_maps(kind, tokens).float().chunk(2), size)
                if kind.startswith('cam'):
                    merged = merged.relu_()
                for name in names:
                    sums[name] = sums[name] + merged if name in sums else merged
        return {name: L.normalize_maps(value) for name, value in sums.items()}

    def _raw_maps(self, kind: str, tokens: Tokens) -> Tensor:
        """Maps ``(B, K, h, w)`` of one pass, before any normalisation."""
        if kind == 'cam':
            return self.classifier(tokens.patches)
        if kind == 'cam_aux':
            return self.aux_classifier(tokens.aux_patches)
        if kind == 'lam':
            return L.class_patch_similarity(
                self.class_tokens(tokens), tokens.patches.float())
        return tokens.attention


class _Segmentation:
    """Collects segmentation and image logits from passes that maps need too."""

    def __init__(self, model: LocalizationMixin, size: Tuple[int, int],
                 scales: Tuple[float, ...]) -> None:
        self.model, self.size, self.scales = model, size, scales
        self.scores: Optional[Tensor] = None
        self.logits: Optional[Tensor] = None
        self.merged: Optional[Tensor] = None

    def add(self, tokens: Tokens, scale: float) -> None:
        """Take what is wanted from the tokens of images and flips (2B)."""
        if scale == 1:
            scores = self.model._image_logits(tokens)[0]
            self.scores = scores.chunk(2)[0].float()
        if scale != 1 and scale not in self.scales:
            return
        image, flip = self.model.decode_head(tokens.patches).float().chunk(2)
        if scale == 1:
            self.logits = image
        if scale in self.scales:
            logits = L.resize_map(image + flip.flip(-1), self.size)
            self.merged = logits if self.merged is None else torch.maximum(
                self.merged, logits)
