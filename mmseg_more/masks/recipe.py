"""What turns the outputs of the network into a mask."""

from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from torch import Tensor

from mmseg.structures import SegDataSample

from ..localization import check_scales
from ..models.structures import MASK_SCALES, SEG_SCALES, LocalizationRequest
from .dense_crf import CLASS_EPSILON, DenseCRFOptions
from .probabilities import (
    ClassProbabilities,
    map_probabilities,
    probabilities_to_mask,
    seg_probabilities,
    threshold_mask,
)

SOURCES = ('lam', 'cam', 'fused', 'seg')
"""Where masks come from: a localization map or the segmentation head."""
CLASSES = ('image-labels', 'predicted', 'all')
"""Which classes may appear in the mask of an image."""


class MaskRecipe(NamedTuple):
    """How masks are made; build it by :func:`make_recipe`."""

    source: str
    """One of ``SOURCES``."""
    scales: Tuple[float, ...]
    """Scales of the passes; none: the segmentation as the model predicts it."""
    classes: str
    """One of ``CLASSES``."""
    bkg: Optional[float]
    """Background threshold of a map without CRF; None where there is none."""
    crf: Optional[DenseCRFOptions]
    """None: no CRF."""
    epsilon: float
    """Classes below this probability are left out of the CRF."""

    @property
    def needs_bkg(self) -> bool:
        """Whether a threshold decides what is background."""
        return self.source != 'seg' and self.crf is None

    def settings(self) -> dict:
        """All of it, as the manifest says it."""
        crf = self.crf and dict(self.crf._asdict(), epsilon=self.epsilon)
        return dict(
            source=self.source,
            scales=list(self.scales),
            classes=self.classes,
            bkg=self.bkg,
            crf=crf,
        )

    def request(
        self, present: Optional[LocalizationRequest]
    ) -> Optional[LocalizationRequest]:
        """What to ask the segmentor for, beside what another hook has.

        Raises:
            ValueError: If the other hook wants the same fields at other
                scales.
        """
        if not self.scales:
            return present
        request = present or LocalizationRequest(maps=(), cam_scales=(), lam_scales=())
        kind = 'seg_scales' if self.source == 'seg' else 'ms_scales'
        others = getattr(request, kind)
        if others not in ((), self.scales):
            raise ValueError(
                f'another hook asks for {kind}={others}, the masks need '
                f'{self.scales}: remove that hook from "custom_hooks"'
            )
        request = request._replace(**{kind: self.scales})
        if self.source != 'seg' and self.source not in request.maps:
            request = request._replace(maps=(*request.maps, self.source))
        return request

    def values(self, sample: SegDataSample) -> Tensor:
        """Maps ``(K, H, W)`` or logits ``(K+1, H, W)`` of one image."""
        if self.source != 'seg':
            return sample.get(f'{self.source}_ms').data
        return sample.get('seg_logits_ms' if self.scales else 'seg_logits').data

    def probabilities(
        self, values: Tensor, classes: Optional[Sequence[int]]
    ) -> ClassProbabilities:
        """Probabilities of the labels that may appear, before any CRF.

        Args:
            values: Of :meth:`values`.
            classes: Indices ``0..K-1``; None for all.
        """
        if self.source == 'seg':
            return seg_probabilities(values, classes)
        return map_probabilities(values, classes)

    def mask(self, values: Tensor, probabilities: ClassProbabilities) -> Tensor:
        """Dense labels ``(H, W)``, uint8, without CRF."""
        if self.source == 'seg':
            return probabilities_to_mask(probabilities)
        return threshold_mask(values, probabilities.labels[1:] - 1, self.bkg)


def make_recipe(
    source: str = 'lam',
    multi_scale: bool = True,
    scales: Optional[Sequence[float]] = None,
    classes: str = 'image-labels',
    bkg: Optional[float] = None,
    crf: Union[bool, Mapping[str, Any]] = False,
) -> MaskRecipe:
    """Check the arguments of a user, and fill in what they leave open.

    Args:
        source: One of ``SOURCES``.
        multi_scale: Whether at several scales (image and flip at each).
        scales: Which, instead of ``MASK_SCALES`` (maps) or ``SEG_SCALES``
            (segmentation).
        classes: One of ``CLASSES``; 'all' for the segmentation alone.
        bkg: Background threshold in [0, 1) of a map without CRF.
        crf: Whether to refine by the dense CRF; a dict holds arguments of
            :class:`DenseCRFOptions` and, maybe, ``epsilon``.

    Raises:
        ValueError: If an argument is none of these.
    """
    for name, value, known in (('source', source, SOURCES), ('classes', classes, CLASSES)):
        if value not in known:
            raise ValueError(f'{name} must be one of {", ".join(known)}, got {value!r}')
    if classes == 'all' and source != 'seg':
        raise ValueError(
            "classes='all' is for source='seg': a localization map tells where "
            'a class is, not whether; take image-labels or predicted'
        )
    if bkg is not None and not 0 <= bkg < 1:
        raise ValueError(f'bkg must lie in [0, 1), got {bkg}')
    if scales is not None and not multi_scale:
        raise ValueError(
            f'scales={tuple(scales)} with multi_scale=False: leave one of them out'
        )
    if scales is not None:
        scales = check_scales(scales, 'scales')
    elif multi_scale:
        scales = SEG_SCALES if source == 'seg' else MASK_SCALES
    else:
        scales = () if source == 'seg' else (1.0,)
    options, epsilon = _crf_options(crf)
    recipe = MaskRecipe(source, scales, classes, bkg, options, epsilon)
    # without effect: not two settings that give one mask
    return recipe if recipe.needs_bkg else recipe._replace(bkg=None)


def _crf_options(
    crf: Union[bool, Mapping[str, Any]],
) -> Tuple[Optional[DenseCRFOptions], float]:
    if isinstance(crf, bool):
        return (DenseCRFOptions() if crf else None), CLASS_EPSILON
    known = (*DenseCRFOptions._fields, 'epsilon')
    unknown = set(crf) - set(known)
    if unknown:
        raise ValueError(
            f'crf: unknown keys {sorted(unknown)}, known are {", ".join(known)}'
        )
    values = dict(crf)
    epsilon = values.pop('epsilon', CLASS_EPSILON)
    return DenseCRFOptions(**values), epsilon
