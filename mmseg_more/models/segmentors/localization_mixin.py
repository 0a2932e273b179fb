"""How MoRe's tokens become localization maps (MoRe, section 3.2)."""

from functools import partial
from typing import Callable, Dict, Iterable, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import localization as L
from ...localization.present import PresentClasses
from ..structures import LocalizationMaps, LocalizationRequest, Tokens
from .passes import (
    SegmentationPasses,
    SharedPasses,
    add_merged,
    classify,
    fastest_chunk,
    normalize_in_place,
)

Plan = Dict[str, Tuple[str, Tuple[float, ...]]]
"""Name of a result -> kind of map and the scales that are summed."""


class TrainingCAMs(NamedTuple):
    """Normalised multi-scale CAMs of a training batch, ``(B, K, H, W)``."""

    cam: Tensor
    """Of the classifier, in [0, 1]."""
    cam_aux: Tensor
    """Of the auxiliary classifier, in [0, 1]."""


class LocalizationMixin:
    """Maps of the segmentor :class:`MoRe`, which holds the network.

    Passes that need no gradient run ``chunk_size`` images at a time.
    """

    def _set_localization(
        self,
        scales: Sequence[float] = (1.0, 0.5, 0.75, 1.5),
        chunk_size: Optional[int] = None,
        **unknown,
    ) -> None:
        if unknown:
            raise ValueError(
                f'unknown keys {sorted(unknown)} in `localization`: '
                "it takes 'scales' and 'chunk_size'"
            )
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(
                'localization.chunk_size must be None or at least 1 '
                f'image, got {chunk_size}'
            )
        self.train_scales = L.check_scales(scales, 'localization.scales')
        self.chunk_size = chunk_size

    def _run_backbone(
        self,
        images: Tensor,
        read: Callable[[Tokens], Dict[str, Tensor]],
        with_attention: bool = False,
    ) -> Dict[str, Tensor]:
        """What ``read`` makes of the tokens of ``images``, chunk by chunk."""
        chunk_size = self.chunk_size or fastest_chunk(
            images, self.backbone.hidden_bytes(images.shape[-2:])
        )
        parts = [
            read(self.backbone(chunk, with_attention)) for chunk in images.split(chunk_size)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _with_flip(self, inputs: Tensor, scale: float) -> Tensor:
        """The scaled images, then their flips, ``(2B, 3, h, w)``."""
        images = L.resize_map(inputs, L.scaled_size(inputs.shape[-2:], scale))
        return torch.cat([images, images.flip(-1)])

    def _image_logits(self, tokens: Tokens) -> Tuple[Tensor, Tensor]:
        """Logits ``(B, K)`` of both classifiers on max-pooled patches."""
        return tuple(
            classify(classifier, F.adaptive_max_pool2d(patches, 1)).flatten(1)
            for classifier, patches in (
                (self.classifier, tokens.patches),
                (self.aux_classifier, tokens.aux_patches),
            )
        )

    def _cams(self, tokens: Tokens) -> Dict[str, Tensor]:
        """Maps of both classifiers, ``(B, K, h, w)``, not normalised."""
        return dict(
            cam=classify(self.classifier, tokens.patches),
            cam_aux=classify(self.aux_classifier, tokens.aux_patches),
        )

    @torch.no_grad()
    def training_cams(
        self, inputs: Tensor, tokens: Tokens, classes: Optional[PresentClasses] = None
    ) -> TrainingCAMs:
        """Normalised multi-scale CAMs of a training batch (no gradient).

        The forward pass of the step serves scale 1; only its flip is run again.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            tokens: Their tokens.
            classes: Classes that are wanted, since the maps of all are as many
                images of full size; None for all.

        Returns:
            Final and auxiliary CAM, ``(B, C, H, W)`` in [0, 1], of the C
            channels of ``classes`` (of all K classes).
        """
        size = inputs.shape[-2:]
        sums: Dict[str, Tensor] = {}
        for scale in self.train_scales:
            if L.scaled_size(size, scale) == tuple(size):
                cams = self._cams(tokens)
                flips = self._run_backbone(inputs.flip(-1), self._cams)
                pairs = {name: (cams[name], flips[name]) for name in cams}
            else:
                both = self._run_backbone(self._with_flip(inputs, scale), self._cams)
                pairs = {name: cam.chunk(2) for name, cam in both.items()}
            for name, pair in pairs.items():
                if classes is not None:
                    pair = [classes.select(cam) for cam in pair]
                if name not in sums:
                    sums[name] = pair[0].new_zeros(*pair[0].shape[:2], *size)
                add_merged([sums[name]], *pair, relu=True)
        return TrainingCAMs(
            **{name: normalize_in_place(value) for name, value in sums.items()}
        )

    @torch.no_grad()
    def localize(
        self,
        inputs: Tensor,
        scales: Sequence[float] = (1.0,),
        lam_scales: Optional[Sequence[float]] = None,
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
        lam_scales = (
            cam_scales if lam_scales is None else L.check_scales(lam_scales, 'lam_scales')
        )
        maps = self._run_passes(
            inputs,
            dict(
                cam=('cam', cam_scales),
                cam_aux=('cam_aux', cam_scales),
                lam=('lam', lam_scales),
                attention=('attention', lam_scales),
            ),
        )
        return LocalizationMaps(fused=L.fuse_maps(maps['lam'], maps['cam']), **maps)

    @torch.no_grad()
    def shared_passes(self, inputs: Tensor, request: LocalizationRequest) -> SharedPasses:
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
            ('_ms', request.ms_scales, request.ms_scales),
        ):
            for name, scales in (
                ('cam', cam_scales),
                ('lam', lam_scales),
                ('attention', lam_scales),
            ):
                wanted = name in request.maps or fuse and name != 'attention'
                if wanted and scales:
                    plan[name + suffix] = (name, scales)
        segmentation = SegmentationPasses(self, inputs.shape[-2:], request.seg_scales)
        maps = self._run_passes(inputs, plan, segmentation)
        if fuse:
            for suffix in ('', '_ms'):
                if f'lam{suffix}' in maps:
                    maps[f'fused{suffix}'] = L.fuse_maps(
                        maps[f'lam{suffix}'], maps[f'cam{suffix}']
                    )
        asked = {name + suffix for name in request.maps for suffix in ('', '_ms')}
        return SharedPasses(
            {name: value for name, value in maps.items() if name in asked},
            segmentation.scores,
            segmentation.logits,
            segmentation.merged,
        )

    def _run_passes(
        self, inputs: Tensor, plan: Plan, segmentation: Optional[SegmentationPasses] = None
    ) -> Dict[str, Tensor]:
        """Run every scale of ``plan`` once; normalised maps by their names."""
        size = inputs.shape[-2:]
        sums: Dict[str, Tensor] = {}
        scales = dict.fromkeys(s for _, some in plan.values() for s in some)
        if segmentation is not None:
            scales.update(dict.fromkeys((1.0, *segmentation.scales)))
        for scale in scales:
            due: Dict[str, list] = {}  # kind of map -> results it counts for
            for name, (kind, some) in plan.items():
                if scale in some:
                    due.setdefault(kind, []).append(name)
            found = self._run_backbone(
                self._with_flip(inputs, scale),
                partial(self._read, due, segmentation, scale),
                with_attention='attention' in due,
            )
            if segmentation is not None:
                segmentation.add(found, scale)
            for kind, names in due.items():
                image, flip = found[kind].chunk(2)
                for name in names:
                    if name not in sums:
                        sums[name] = image.new_zeros(*image.shape[:2], *size)
                add_merged(
                    [sums[name] for name in names], image, flip, relu=kind.startswith('cam')
                )
        return {name: normalize_in_place(value) for name, value in sums.items()}

    def _read(
        self,
        kinds: Iterable[str],
        segmentation: Optional[SegmentationPasses],
        scale: float,
        tokens: Tokens,
    ) -> Dict[str, Tensor]:
        """Maps ``(B, K, h, w)`` of one pass before any normalisation, by their
        kinds, and what ``segmentation`` needs of it."""
        found = {kind: self._raw_maps(kind, tokens) for kind in kinds}
        if segmentation is not None:
            found.update(segmentation.read(tokens, scale))
        return found

    def _raw_maps(self, kind: str, tokens: Tokens) -> Tensor:
        if kind == 'cam':
            return classify(self.classifier, tokens.patches)
        if kind == 'cam_aux':
            return classify(self.aux_classifier, tokens.aux_patches)
        if kind == 'lam':
            return L.class_patch_similarity(
                self.class_tokens(tokens), tokens.patches.float()
            )
        return tokens.attention
