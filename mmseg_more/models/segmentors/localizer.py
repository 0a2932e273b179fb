"""Tokens -> maps: how MoRe's tokens become localization maps (MoRe, section 3.2)."""

import math
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from ... import localization as L
from ...localization.present import PresentClasses, predicted_classes, present_classes
from ..stations import station
from ..structures import (
    POLICIES,
    LocalizationMaps,
    LocalizationRequest,
    Tokens,
    TrainingCAMs,
)
from .graphed_backbone import GraphedBackbone

if TYPE_CHECKING:
    from .more import MoRe

# Larger tensors are given back to the system by glibc's allocator and paged in anew at
# every layer, which costs a CPU some percent of a pass.
_CPU_PASS_BYTES = 32 * 2**20
# Maps of image size that are worked on together; more would leave the cache.
_CPU_MAP_BYTES = 4 * 2**20

Plan = Dict[str, Tuple[str, Tuple[float, ...]]]
"""Name of a result -> kind of map and the scales that are summed."""


class SharedPasses(NamedTuple):
    """What one set of multi-scale passes over a batch gives."""

    maps: Dict[str, Tensor]
    """Normalised maps ``(B, C, H, W)`` in [0, 1], by the fields of the request."""
    classes: Optional[PresentClasses]
    """The classes of their C channels; None: all K."""
    scores: Tensor
    """Image logits ``(B, K)`` of the images as they are."""
    predicted: Tensor
    """Classes that the network sees in the images, bool ``(B, K)``."""
    segmentation: Tensor
    """Segmentation logits ``(B, K+1, h, w)`` of the images as they are."""
    segmentation_ms: Tuple[Tensor, ...]
    """Of each scale that was asked for, the logits of image and flip summed,
    ``(B, K+1, h, w)`` of its grid."""


class View(NamedTuple):
    """What one pass over images says, before anything is merged or normalised."""

    cam: Tensor
    """Logits of the classifier on the patches, ``(B, K, h, w)``."""
    lam: Tensor
    """Similarities of class tokens and patches, ``(B, K, h, w)``, any range."""
    segmentation: Tensor
    """Segmentation logits ``(B, K+1, h, w)``."""
    scores: Tensor
    """Image logits ``(B, K)``."""


class Localizer:
    """Localization maps of the segmentor :class:`MoRe`.

    It holds no weights: whatever it runs is read from ``model`` when it is run. Passes that
    need no gradient run ``chunk_size`` images at a time.

    Args:
        model: The segmentor.
        scales: Scales of the CAM passes in training.
        chunk_size: Images (flips count) per pass without a gradient; None: all on a GPU,
            on a CPU what is fastest.
        cuda_graphs: Passes without a gradient are captured and replayed on a GPU, see
            :class:`GraphedBackbone`; elsewhere they run as ever. Defaults to False.

    Raises:
        ValueError: If a scale is not positive, ``chunk_size`` less than 1, or for another
            argument.
    """

    def __init__(
        self,
        model: 'MoRe',
        scales: Sequence[float] = (1.0, 0.5, 0.75, 1.5),
        chunk_size: Optional[int] = None,
        cuda_graphs: bool = False,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise ValueError(
                f'unknown keys {sorted(unknown)} in `localization`: '
                "it takes 'scales', 'chunk_size' and 'cuda_graphs'"
            )
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(
                'localization.chunk_size must be None or at least 1 '
                f'image, got {chunk_size}'
            )
        self.model = model
        self.scales = L.check_scales(scales, 'localization.scales')
        self.chunk_size = chunk_size
        self._graphs = GraphedBackbone(model.backbone) if cuda_graphs else None

    # ----------------------------------------------------------- what is made
    @torch.no_grad()
    @station('cams')
    def training_cams(
        self,
        inputs: Tensor,
        tokens: Optional[Tokens] = None,
        classes: Optional[PresentClasses] = None,
    ) -> TrainingCAMs:
        """Normalised multi-scale CAMs of a training batch (no gradient).

        The forward pass of the step serves scale 1; only its flip is run again.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            tokens: Their tokens; None runs scale 1 here as well.
            classes: Classes that are wanted, since the maps of all are as many
                images of full size; None for all.

        Returns:
            Final and auxiliary CAM, ``(B, C, H, W)`` in [0, 1], of the C
            channels of ``classes`` (of all K classes).
        """
        size = inputs.shape[-2:]
        read = partial(self._read_maps, ('cam', 'cam_aux'))
        sums: Dict[str, Tensor] = {}
        for scale in self.scales:
            with record_function(f'more/cam_x{scale:g}'):
                if tokens is not None and L.scaled_size(size, scale) == tuple(size):
                    cams = read(tokens)
                    flips = self._run_backbone(inputs.flip(-1), read)
                else:
                    both = self._run_backbone(_with_flip(inputs, scale), read)
                    cams = {name: cam.chunk(2)[0] for name, cam in both.items()}
                    flips = {name: cam.chunk(2)[1] for name, cam in both.items()}
            for name in cams:
                _add_scale(sums, [name], cams[name], flips[name], size, classes, relu=True)
        cam, cam_aux = (normalize_in_place(sums[name]) for name in ('cam', 'cam_aux'))
        return TrainingCAMs(cam, cam_aux)

    @torch.no_grad()
    def localize(
        self,
        inputs: Tensor,
        scales: Sequence[float] = (1.0,),
        lam_scales: Optional[Sequence[float]] = None,
    ) -> LocalizationMaps:
        """All maps of all classes, see :meth:`MoRe.localize`."""
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
    def shared_passes(
        self,
        inputs: Tensor,
        request: LocalizationRequest,
        image_labels: Optional[Tensor] = None,
    ) -> SharedPasses:
        """Everything that ``request`` asks for, each pass run once.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            request: Maps, scales, and of which classes.
            image_labels: Multi-hot ``(B, K)``, for the policy 'image-labels'.

        Returns:
            The maps by the field names of the request, and what the pass
            over the images as they are says besides.

        Raises:
            ValueError: If the policy is unknown, or image labels are missing for it.
        """
        if request.policy not in POLICIES:
            raise ValueError(
                f'policy must be one of {", ".join(POLICIES)}, got {request.policy!r}'
            )
        if request.policy == 'image-labels' and image_labels is None:
            raise ValueError("the policy 'image-labels' needs image labels")
        segmentation = _SegmentationPasses(self.model, request.seg_scales)

        def channels() -> Optional[PresentClasses]:
            if request.policy == 'all':
                return None
            labels = image_labels if request.policy == 'image-labels' else None
            return present_classes(segmentation.predicted() if labels is None else labels)

        maps = self._run_passes(inputs, _plan(request), segmentation, channels)
        for suffix in ('', '_ms') if 'fused' in request.maps else ():
            if f'lam{suffix}' in maps:
                maps[f'fused{suffix}'] = L.fuse_maps(
                    maps[f'lam{suffix}'], maps[f'cam{suffix}']
                )
        asked = {name + suffix for name in request.maps for suffix in ('', '_ms')}
        return SharedPasses(
            {name: value for name, value in maps.items() if name in asked},
            channels(),
            segmentation.scores,
            segmentation.predicted(),
            segmentation.logits,
            tuple(segmentation.sums),
        )

    @torch.no_grad()
    def view(self, inputs: Tensor) -> View:
        """The raw maps of the images as they are: one pass, without their flips.

        Who compares views of an image (flipped, of another size) needs them apart; maps
        for labels and masks come from the other methods.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
        """

        def read(tokens: Tokens) -> Dict[str, Tensor]:
            return dict(
                self._read_maps(('cam', 'lam'), tokens),
                segmentation=self.model.decode_head([tokens.patches]).float(),
                scores=self.model.image_logits(tokens)[0],
            )

        return View(**self._run_backbone(inputs, read))

    # ---------------------------------------------------- how passes are run
    def _run_backbone(
        self,
        images: Tensor,
        read: Callable[[Tokens], Dict[str, Tensor]],
        with_attention: bool = False,
    ) -> Dict[str, Tensor]:
        """What ``read`` makes of the tokens of ``images``, chunk by chunk."""
        backbone = self.model.backbone
        chunk_size = self.chunk_size or fastest_chunk(
            images, backbone.hidden_bytes(images.shape[-2:])
        )
        parts = []
        for chunk in images.split(chunk_size):
            if self._graphs is not None and chunk.is_cuda and not with_attention:
                tokens = self._graphs(chunk)
            else:
                tokens = backbone(chunk, with_attention)
            parts.append(read(tokens))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _run_passes(
        self,
        inputs: Tensor,
        plan: Plan,
        segmentation: Optional['_SegmentationPasses'] = None,
        channels: Callable[[], Optional[PresentClasses]] = lambda: None,
    ) -> Dict[str, Tensor]:
        """Run every scale of ``plan`` once; normalised maps by their names.

        Args:
            inputs: Normalised images ``(B, 3, H, W)``.
            plan: The maps.
            segmentation: Gets the passes too, that over the images as they are first.
            channels: Tells, after the first pass, of which classes the maps are made.
        """
        size = inputs.shape[-2:]
        sums: Dict[str, Tensor] = {}
        of_maps = (scale for _, map_scales in plan.values() for scale in map_scales)
        of_segmentation = () if segmentation is None else (1.0, *segmentation.scales)
        for scale in dict.fromkeys((*of_segmentation[:1], *of_maps, *of_segmentation)):
            results: Dict[str, List[str]] = {}  # kind of map -> results it counts for
            for name, (kind, map_scales) in plan.items():
                if scale in map_scales:
                    results.setdefault(kind, []).append(name)

            def read(
                tokens: Tokens, kinds: Iterable[str] = tuple(results), scale: float = scale
            ) -> Dict[str, Tensor]:
                readings = self._read_maps(kinds, tokens)
                if segmentation is not None:
                    readings.update(segmentation.read(tokens, scale))
                return readings

            readings = self._run_backbone(
                _with_flip(inputs, scale), read, with_attention='attention' in results
            )
            if segmentation is not None:
                segmentation.add(readings, scale)
            classes = channels()
            for kind, names in results.items():
                image, flip = readings[kind].chunk(2)
                relu = kind.startswith('cam')
                _add_scale(sums, names, image, flip, size, classes, relu)
        return {name: normalize_in_place(value) for name, value in sums.items()}

    def _read_maps(self, kinds: Iterable[str], tokens: Tokens) -> Dict[str, Tensor]:
        """Maps ``(B, K, h, w)`` of one pass before any normalisation, by their kinds."""
        return {kind: self.raw_map(kind, tokens) for kind in kinds}

    def raw_map(self, kind: str, tokens: Tokens) -> Tensor:
        """Map ``(B, K, h, w)`` of one pass before any normalisation, by its kind."""
        if kind == 'cam':
            return classify(self.model.classifier, tokens.patches)
        if kind == 'cam_aux':
            return classify(self.model.aux_classifier, tokens.aux_patches)
        if kind == 'lam':
            queries = self.model.class_tokens(tokens)
            with torch.autocast(queries.device.type, enabled=False):
                return L.class_patch_similarity(queries, tokens.patches.float())
        assert tokens.attention is not None, 'the backbone was asked for it'
        return tokens.attention


class _SegmentationPasses:
    """Collects segmentation and image logits from passes that maps need too."""

    scores: Tensor
    logits: Tensor

    def __init__(self, model: 'MoRe', scales: Tuple[float, ...]) -> None:
        self.model, self.scales = model, scales
        self.sums: List[Tensor] = []

    def read(self, tokens: Tokens, scale: float) -> Dict[str, Tensor]:
        """What is wanted of the tokens of one pass."""
        readings = {}
        if scale == 1:
            readings['scores'] = self.model.image_logits(tokens)[0]
        if scale == 1 or scale in self.scales:
            readings['segmentation'] = self.model.decode_head([tokens.patches]).float()
        return readings

    def add(self, readings: Dict[str, Tensor], scale: float) -> None:
        """Take it, read from images and flips (2B)."""
        if 'segmentation' not in readings:
            return
        image, flip = readings['segmentation'].chunk(2)
        if scale == 1:
            self.scores, self.logits = readings['scores'].chunk(2)[0], image
        if scale in self.scales:
            self.sums.append(image + flip.flip(-1))

    def predicted(self) -> Tensor:
        """Classes of the images as they are, bool ``(B, K)``."""
        return predicted_classes(self.scores, self.logits)


def classify(classifier: nn.Conv2d, patches: Tensor) -> Tensor:
    """Logits of patches, never in half precision: thresholds are finer."""
    with torch.autocast(patches.device.type, enabled=False):
        return classifier(patches.to(classifier.weight.dtype)).float()


def _plan(request: LocalizationRequest) -> Plan:
    """The maps that ``request`` asks for, and those that these are made of."""
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
            for_fused = 'fused' in request.maps and name != 'attention'
            if (name in request.maps or for_fused) and scales:
                plan[name + suffix] = (name, scales)
    return plan


def _with_flip(inputs: Tensor, scale: float) -> Tensor:
    """The scaled images, then their flips, ``(2B, 3, h, w)``."""
    images = L.resize_map(inputs, L.scaled_size(inputs.shape[-2:], scale))
    return torch.cat([images, images.flip(-1)])


def fastest_chunk(images: Tensor, hidden_bytes: int) -> int:
    """Images per pass without a gradient where memory is no matter.

    All on a GPU; on a CPU what keeps a hidden layer small, in parts of equal size.

    Args:
        images: ``(B, 3, H, W)``.
        hidden_bytes: Size of the widest activation for one image.
    """
    if images.device.type != 'cpu':
        return len(images)
    passes = math.ceil(len(images) / max(_CPU_PASS_BYTES // hidden_bytes, 1))
    return math.ceil(len(images) / passes)


def _classes_at_once(total: Tensor) -> int:
    """All on a GPU; on a CPU what the cache can hold."""
    batch_size, classes, height, width = total.shape
    if total.device.type != 'cpu':
        return classes
    return max(_CPU_MAP_BYTES // (4 * batch_size * height * width), 1)


def _add_scale(
    sums: Dict[str, Tensor],
    names: Sequence[str],
    image: Tensor,
    flip: Tensor,
    size: Sequence[int],
    classes: Optional[PresentClasses],
    relu: bool,
) -> None:
    """Add the maps of one scale to the sums ``names``, which may not exist yet.

    Args:
        sums: ``(B, C, H, W)`` by name, changed in place.
        names: Which of them.
        image: Maps of the images, ``(B, K, h, w)``.
        flip: Maps of the flipped images, likewise.
        size: ``(H, W)``.
        classes: The C channels; None for all K.
        relu: Whether negative values count as 0.
    """
    if classes is not None:
        image, flip = classes.select(image), classes.select(flip)
    for name in names:
        if name not in sums:
            sums[name] = image.new_zeros(*image.shape[:2], *size)
    add_merged([sums[name] for name in names], image, flip, relu)


def add_merged(totals: Sequence[Tensor], maps: Tensor, flipped: Tensor, relu: bool) -> None:
    """Add the maps of one scale, merged with those of the flips, to sums.

    Args:
        totals: Sums ``(B, C, H, W)``, changed in place.
        maps: Maps of the images, ``(B, C, h, w)``.
        flipped: Maps of the flipped images, likewise.
        relu: Whether negative values count as 0.
    """
    count, size = _classes_at_once(totals[0]), totals[0].shape[-2:]
    for image, flip, *sums in zip(
        *(t.split(count, dim=1) for t in (maps, flipped, *totals))
    ):
        merged = L.merge_flip(image, flip, size)
        if relu:
            merged = merged.relu_()
        for part in sums:
            part += merged


def normalize_in_place(total: Tensor) -> Tensor:
    """``L.normalize_maps`` of ``(B, C, H, W)`` that nothing else needs."""
    for part in total.split(_classes_at_once(total), dim=1):
        part.copy_(L.normalize_maps(part))
    return total
