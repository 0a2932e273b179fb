"""How a mask is made: one object that holds all options, and every default."""

import dataclasses
from dataclasses import dataclass, fields, replace
from logging import WARNING
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from mmengine.logging import print_log
from torch import Tensor

from mmseg.structures import SegDataSample

from ..localization import check_scales
from ..models.structures import MASK_SCALES, POLICIES, SEG_SCALES, LocalizationRequest
from .calibration import Calibration, as_calibration, scale_kind
from .confidence import ConfidenceCurves
from .dense_crf import BACKENDS, CLASS_EPSILON, DenseCRFOptions
from .large_images import MAX_PIXELS, check_max_pixels
from .memory import map_bytes
from .probabilities import ClassProbabilities, map_probabilities, seg_probabilities

SOURCES = ('lam', 'cam', 'fused', 'seg')
"""What masks are made of: a localization map or the segmentation head."""
BACKGROUNDS = ('complement', 'calibrated')
"""What the CRF takes for the background of a map: 1 - maximum of the map as it is (the
published form), or of the map bent so that its threshold comes to lie at .5."""

CRF_TIMEOUT = 3600.0
"""Seconds for the CRF of an image: an hour, 20 times what 6000x4000 pixels with two classes
were seen to take."""

_NO_THRESHOLD = (
    "background='calibrated' is of localization maps, and the masks are of the "
    "segmentation: leave it out, or take source='lam', 'cam' or 'fused'"
)


@dataclass(frozen=True)
class MaskRecipe:
    """How a mask is made from what the network says about an image.

    The defaults are those of masks for training (pseudo labels); those of a prediction
    are in :data:`PREDICTION`. What is None is left to :meth:`resolve`, which knows the
    model and the data.

    Args:
        source: 'lam', 'cam' or 'fused' for a localization map, 'seg' for the segmentation.
            None: 'lam' of a MoRe, 'seg' of any other segmentor.
        multi_scale: Whether at several scales, image and flip at each. Other segmentors
            than MoRe give masks at the scale of their prediction.
        scales: Which, in place of (1, .5, .75, 1.25, 1.5, 1.75, 2) for maps and
            (1, 1.25, 1.5) for the segmentation.
        policy: Which classes may appear: 'image-labels', 'predicted' or, for the
            segmentation, 'all'. None: the image labels where the data have them, else
            'all' for the segmentation.
        bkg: Threshold in [0, 1) of a map: background where it is at most this, without
            CRF or with a calibrated ``background``. Or a file of thresholds
            (:class:`~mmseg_more.masks.Calibration`). None: that of the config's test
            evaluator, or else of the model.
        crf: Whether to refine by the dense CRF. A dict holds what differs of
            :class:`DenseCRFOptions`, ``epsilon`` (classes that stay below this
            probability all over the image are left out; .02 unless given) and
            ``backend`` ('auto', 'lattice' or 'pydensecrf').
        crf_timeout: Seconds that the CRF of one image may take in a worker process; an
            image that takes longer fails alone. None: any. No part of :meth:`settings`, as
            no mask depends on it.
        max_pixels: Images of more pixels are worked on at the largest size within this
            limit, from the network's input to the CRF; their masks come back to the full
            size (docs/masks.md, "Large images"). None: no limit.
        calibration: File of what was learned of the model's masks
            (:class:`~mmseg_more.masks.Calibration`). Its thresholds are for masks of a map,
            without and with CRF: short for this file as ``bkg`` and
            ``background='calibrated'``. Its curves calibrate the confidence of masks that
            are made as those that they were fitted to.
        background: What the CRF takes for the background of a map, one of
            :data:`BACKGROUNDS`; 'complement' unless given.
        class_bkg: Threshold of each of the K classes in their order, in place of ``bkg``.
            A file may hold them.

    Raises:
        FileNotFoundError: If there is no such file of thresholds.
        ValueError: If an option is none of these.
    """

    source: Optional[str] = None
    multi_scale: bool = True
    scales: Optional[Sequence[float]] = None
    policy: Optional[str] = None
    bkg: Union[float, str, Calibration, None] = None
    crf: Union[bool, Mapping[str, Any], None] = False
    calibration: Union[str, Calibration, None] = None
    background: Optional[str] = None
    class_bkg: Optional[Sequence[float]] = None
    crf_timeout: Optional[float] = CRF_TIMEOUT
    max_pixels: Optional[int] = MAX_PIXELS

    def __post_init__(self) -> None:
        choices = dict(source=SOURCES, policy=POLICIES, background=BACKGROUNDS)
        for name, known in choices.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ValueError(f'{name} must be one of {", ".join(known)}, got {value!r}')
        if self.policy == 'all' and self.source not in (None, 'seg'):
            raise ValueError(
                "policy='all' is for source='seg': a localization map tells where a "
                'class is, not whether; take image-labels or predicted'
            )
        self._check_thresholds()
        if self.crf_timeout is not None and not self.crf_timeout > 0:
            raise ValueError(
                f'crf_timeout must be positive seconds or None, got {self.crf_timeout}'
            )
        check_max_pixels(self.max_pixels)
        if self.scales is not None:
            if not self.multi_scale:
                raise ValueError(
                    f'scales={tuple(self.scales)} with multi_scale=False: leave one of '
                    'them out'
                )
            object.__setattr__(self, 'scales', check_scales(self.scales, 'scales'))
        object.__setattr__(self, 'crf', _crf_settings(self.crf))

    def _check_thresholds(self) -> None:
        if isinstance(self.bkg, str):
            object.__setattr__(self, 'bkg', as_calibration(self.bkg))
        if self.class_bkg is not None:
            object.__setattr__(self, 'class_bkg', tuple(self.class_bkg))
        for value in (self.bkg, *(self.class_bkg or ())):
            if isinstance(value, (int, float)) and not 0 <= value < 1:
                raise ValueError(f'bkg must lie in [0, 1), got {value}')
        if self.calibration is None:
            return
        calibration = as_calibration(self.calibration)
        object.__setattr__(self, 'calibration', calibration)
        of_others = self.class_bkg is not None or self.bkg not in (None, calibration)
        if calibration.thresholds and of_others:
            raise ValueError(
                'bkg and calibration both give thresholds: leave one of them out'
            )

    def replace(self, **options: Any) -> 'MaskRecipe':
        """The same with other options; scales imply that there are several."""
        unknown = set(options) - {field.name for field in fields(self)}
        if unknown:
            raise TypeError(
                f'unknown options of a mask {sorted(unknown)}, known are '
                f'{", ".join(field.name for field in fields(self))}'
            )
        if options.get('scales') is not None:
            options.setdefault('multi_scale', True)
        return replace(self, **options)

    # ------------------------------------------------------- with model and data
    def resolve(
        self, localizes: bool, with_labels: bool, augmented: bool = False
    ) -> 'MaskRecipe':
        """Decide what was left open but thresholds and curves, see :meth:`calibrated`.

        Args:
            localizes: Whether the model is a MoRe, which gives maps and runs scales.
            with_labels: Whether the images have image labels.
            augmented: Whether the prediction is merged by test-time augmentation, which
                has scales of its own.

        Raises:
            ValueError: If the model cannot give what is asked for.
        """
        source = self.source or ('lam' if localizes and not augmented else 'seg')
        if source != 'seg' and augmented:
            raise ValueError(
                'test-time augmentation merges the segmentation alone: take '
                f"source='seg', or leave out --tta (the {source} uses several scales and "
                'flips of its own accord)'
            )
        if source != 'seg' and not localizes:
            raise ValueError(
                f"source={source!r} needs the segmentor MoRe; of other models take 'seg'"
            )
        if self.scales is not None and not localizes:
            raise ValueError(
                f'scales={self.scales} need the segmentor MoRe; other models take '
                'several scales by --tta'
            )
        policy = self.policy
        if policy is None:
            policy = 'all' if source == 'seg' and not with_labels else 'image-labels'
        if not localizes or augmented:
            scales: Sequence[float] = ()
        elif self.scales is not None:
            scales = self.scales
        elif self.multi_scale:
            scales = SEG_SCALES if source == 'seg' else MASK_SCALES
        else:
            scales = () if source == 'seg' else (1.0,)
        if source == 'seg' and self.background == 'calibrated':
            raise ValueError(_NO_THRESHOLD)
        bkg = self.bkg
        background = self.background or 'complement'
        if self._takes_thresholds(source):
            bkg, background = self.calibration, 'calibrated'
        if source == 'seg' or not self.crf:
            background = 'complement'
        # Without effect, a threshold would make two settings of what gives one mask.
        without_bkg = source == 'seg' or self.crf and background == 'complement'
        return MaskRecipe(
            source,
            bool(scales),
            tuple(scales) or None,
            policy,
            None if without_bkg else bkg,
            self.crf,
            calibration=self.calibration,
            background=background,
            class_bkg=None if without_bkg else self.class_bkg,
            crf_timeout=self.crf_timeout,
            max_pixels=self.max_pixels,
        )

    def _takes_thresholds(self, source: str) -> bool:
        """Whether masks of this source take thresholds of the calibration.

        Raises:
            ValueError: If they take nothing of it.
        """
        if not isinstance(self.calibration, Calibration):
            return False
        published = self.crf and self.background == 'complement'
        takes = bool(self.calibration.thresholds) and source != 'seg' and not published
        if not takes and source not in self.calibration.confidence:
            title = f'{source} with the published background of the CRF'
            raise ValueError(
                f'calibration has no effect: {self.calibration} holds neither thresholds '
                f'nor curves of confidence for masks of {title if published else source}. '
                'Leave it out'
            )
        return takes

    def calibrated(
        self,
        classes: Sequence[str],
        evaluated: Union[float, str, None],
        default: Callable[[], float],
    ) -> 'MaskRecipe':
        """Decide the thresholds and curves of a resolved recipe.

        Curves that were fitted to masks of other settings are left out, with a warning.

        Args:
            classes: Names of the K classes, without background.
            evaluated: What the config evaluates the map with, a number or a file of
                thresholds, as ``evaluated_bkg`` gives it.
            default: Gives the threshold if nothing else does.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file has no threshold of this map, or has one of a class
                that is unknown; if ``class_bkg`` is not of K classes.
        """
        if self.class_bkg is not None and len(self.class_bkg) != len(classes):
            raise ValueError(
                f'class_bkg must hold a threshold of each of the {len(classes)} classes, '
                f'got {len(self.class_bkg)}'
            )
        if not self.needs_bkg:
            return self._with_own_curves(classes)
        bkg = evaluated if self.bkg is None else self.bkg
        if isinstance(bkg, str):
            bkg = as_calibration(bkg)
        decided: Dict[str, Any] = dict(bkg=default() if bkg is None else bkg)
        if isinstance(bkg, Calibration):
            found = bkg.threshold(str(self.source), scale_kind(self.scales or ()))
            decided = dict(bkg=found.bkg, class_bkg=bkg.named(found, classes))
        if isinstance(self.calibration, Calibration):  # its thresholds are known now
            decided['calibration'] = self.calibration.without_thresholds()
        return self.replace(**decided)._with_own_curves(classes)

    def _with_own_curves(self, classes: Sequence[str]) -> 'MaskRecipe':
        """With the curves of these masks alone; without a calibration if it has none."""
        if not isinstance(self.calibration, Calibration):
            return self
        source, calibration = str(self.source), self.calibration.without_thresholds()
        curves = calibration.confidence.get(source)
        differences = curves.differences(self.settings(classes)) if curves else []
        if differences:
            print_log(
                f'confidence of the masks is not calibrated: the curves in {calibration} '
                f'are of other masks ({"; ".join(differences)}). Fit them with the same '
                'options: tools/test.py --reliability JSON --fit-confidence FILE',
                'current',
                WARNING,
            )
        if curves is None or differences:
            return self.replace(calibration=None)
        return self.replace(
            calibration=dataclasses.replace(calibration, confidence={source: curves})
        )

    @property
    def needs_bkg(self) -> bool:
        """Whether a threshold decides what is background, and none is known yet."""
        decides = not self.crf or self.background == 'calibrated'
        unknown = self.bkg is None or isinstance(self.bkg, Calibration)
        return self.source != 'seg' and decides and unknown and self.class_bkg is None

    @property
    def mask_threshold(self) -> Optional[float]:
        """Threshold of what :meth:`probabilities` gives, for a mask without CRF."""
        return 0.5 if self.class_bkg is not None else self._number()

    def _number(self) -> Optional[float]:
        if isinstance(self.bkg, (str, Calibration)):
            raise ValueError('a file of thresholds is for calibrated() to look up')
        return self.bkg

    @property
    def is_prediction(self) -> bool:
        """Whether the mask is the model's own prediction (of a resolved recipe)."""
        plain = self.source == 'seg' and not self.scales and not self.crf
        return plain and self.policy == 'all'

    @property
    def crf_settings(self) -> Optional[Dict[str, Any]]:
        """All settings of the CRF; None without CRF.

        Fields of :class:`DenseCRFOptions`, ``epsilon`` and ``backend``.
        """
        return _crf_settings(self.crf)

    def settings(self, classes: Sequence[str] = ()) -> Dict[str, Any]:
        """All of a resolved recipe, as the manifest says it.

        Args:
            classes: Names of the K classes, for ``class_bkg``.
        """
        crf = self.crf_settings
        if crf and crf['backend'] == 'auto':
            del crf['backend']
        settings: Dict[str, Any] = dict(
            source=self.source,
            scales=list(self.scales or ()),
            classes=self.policy,
            bkg=self._number(),
            crf=crf,
        )
        # only where they matter: folders that were begun without these keys go on
        if self.background == 'calibrated':
            settings['background'] = self.background
        if self.class_bkg is not None:
            settings['class_bkg'] = dict(zip(classes, self.class_bkg))
        if self.max_pixels != MAX_PIXELS:
            settings['max_pixels'] = self.max_pixels
        return settings

    @property
    def curves(self) -> Optional[ConfidenceCurves]:
        """What calibrates the confidence of the masks of a :meth:`calibrated` recipe."""
        if not isinstance(self.calibration, Calibration):
            return None
        return self.calibration.confidence.get(str(self.source))

    def map_bytes(
        self, size: Sequence[int], num_classes: int, labels: Optional[Sequence[int]] = None
    ) -> int:
        """Estimate what the maps or logits of an image take (of a resolved recipe).

        Args:
            size: ``(H, W)`` that they are made at.
            num_classes: ``K``, without background.
            labels: Classes of the image label. None: the network will tell, and two are
                counted.
        """
        if self.source == 'seg' or self.policy == 'all':
            shown = num_classes
        elif self.policy == 'image-labels' and labels is not None:
            shown = len(labels)
        else:
            shown = min(num_classes, 2)
        return map_bytes(size, 1 + shown)

    # ------------------------------------------------------------- the network
    def request(
        self, present: Optional[LocalizationRequest] = None
    ) -> Optional[LocalizationRequest]:
        """What to ask a MoRe for, beside what another hook has asked for.

        Raises:
            ValueError: If the other hook wants the same fields at other scales.
        """
        scales = tuple(self.scales or ())
        if not scales:
            return present
        request = present or LocalizationRequest(
            maps=(),
            cam_scales=(),
            lam_scales=(),
            policy='all' if self.source == 'seg' else str(self.policy),
            logits=False,
        )
        kind = 'seg_scales' if self.source == 'seg' else 'ms_scales'
        others = getattr(request, kind)
        if others not in ((), scales):
            raise ValueError(
                f'another hook asks for {kind}={others}, the masks need {scales}: '
                'remove that hook from the config'
            )
        if self.source == 'seg':
            return request._replace(seg_scales=scales)
        if request.policy not in ('all', self.policy):
            raise ValueError(
                f'another hook asks for the maps of policy={request.policy!r}, the masks '
                f'need {self.policy!r}: give both the same'
            )
        maps = tuple(dict.fromkeys((*request.maps, str(self.source))))
        return request._replace(ms_scales=scales, maps=maps)

    def allowed(self, sample: SegDataSample) -> Optional[List[int]]:
        """Indices ``0..K-1`` of the classes that may appear; None for all.

        Raises:
            ValueError: If the data sample does not say it.
        """
        if self.policy == 'all':
            return None
        if self.policy == 'predicted':
            if 'pred_label' not in sample:
                raise ValueError(
                    "policy='predicted' needs a model that predicts image labels, as MoRe "
                    "does; for other models take 'image-labels' or 'all'"
                )
            return sample.get('pred_label').tolist()
        if 'gt_label' in sample:
            return sample.get('gt_label').tolist()
        if 'gt_score' in sample:
            return sample.get('gt_score').nonzero().flatten().tolist()
        raise ValueError(
            "policy='image-labels', but the data sample has none: pack them by "
            "PackImageLevelInputs, or take 'predicted' or 'all'"
        )

    def probabilities(
        self, sample: SegDataSample, allowed: Optional[Sequence[int]]
    ) -> ClassProbabilities:
        """Probabilities of the labels that may appear, before any CRF.

        Args:
            sample: What the model says of an image, at its original size.
            allowed: Of :meth:`allowed`.
        """
        values: Tensor = sample.get(self.field).data
        return self.class_probabilities(values, allowed, sample.get('map_indices', None))

    @property
    def field(self) -> str:
        """Name of what the masks are made of, on a data sample (of a resolved recipe)."""
        if self.source == 'seg':
            return 'seg_logits_ms' if self.scales else 'seg_logits'
        return f'{self.source}_ms'

    def class_probabilities(
        self,
        values: Tensor,
        allowed: Optional[Sequence[int]],
        channels: Optional[Tensor] = None,
    ) -> ClassProbabilities:
        """As :meth:`probabilities`, of the values of :attr:`field`.

        Args:
            values: Logits ``(1 + K, H, W)`` or maps ``(P, H, W)``.
            allowed: Of :meth:`allowed`.
            channels: Classes of the P maps; None: they are all K in their order.
        """
        if self.source == 'seg':
            return seg_probabilities(values, allowed)
        threshold: Union[float, Sequence[float], None] = self.class_bkg
        if threshold is None and self.background == 'calibrated':
            threshold = self._number()
        return map_probabilities(values, allowed or (), channels, threshold)


def _crf_settings(crf: Union[bool, Mapping[str, Any], None]) -> Optional[Dict[str, Any]]:
    if crf is None or isinstance(crf, bool):
        if not crf:
            return None
        crf = {}
    defaults = dict(DenseCRFOptions()._asdict(), epsilon=CLASS_EPSILON, backend='auto')
    unknown = set(crf) - set(defaults)
    if unknown:
        raise ValueError(
            f'crf: unknown keys {sorted(unknown)}, known are {", ".join(defaults)}'
        )
    settings = {**defaults, **crf}
    if not 0 <= settings['epsilon'] < 1:
        raise ValueError(f'crf: epsilon must lie in [0, 1), got {settings["epsilon"]}')
    if settings['backend'] not in BACKENDS:
        raise ValueError(
            f'crf: backend must be one of {", ".join(BACKENDS)}, got '
            f'{settings["backend"]!r}'
        )
    return settings


PREDICTION = MaskRecipe(source='seg', multi_scale=False)
"""What the model predicts for an image, as it is: the default of the inferencer."""
