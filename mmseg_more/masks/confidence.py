"""How sure a mask is: of each pixel, and one figure of the whole."""

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from ..files import png
from .probabilities import ClassProbabilities

PIXEL_LEVELS = 255
"""An 8-bit map of confidence holds confidence x 255."""
_DIFFERENCE = 1e-9  # of two calibrated values that are the same
_DECISIVE = ('source', 'scales', 'bkg', 'class_bkg', 'background', 'crf')
"""Settings of masks that decide how sure they are."""


# -------------------------------------------------------------------- of one mask
class MaskConfidence(NamedTuple):
    """How sure a mask is, before any calibration."""

    pixels: np.ndarray
    """Probability of the label that each pixel shows, float32 ``(H, W)`` in [0, 1]."""
    image: float
    """The expected IoU of the mask, in [0, 1]; see :func:`expected_iou`."""


def confidence_of(
    mask: Tensor, probabilities: ClassProbabilities, bkg: Optional[float] = None
) -> MaskConfidence:
    """How sure a mask is by the probabilities that it was made of.

    Args:
        mask: Dense labels ``(H, W)``.
        probabilities: Of the labels that may appear, after the CRF where there is one.
        bkg: The threshold that the mask was made with, see :func:`even_odds`. None: the
            largest probability won. What belongs to labels that may not appear is then
            shared among the others, in proportion.
    """
    probabilities = _of_labels(probabilities, bkg)
    return MaskConfidence(_shown(mask, probabilities), expected_iou(mask, probabilities))


def pixel_confidence(
    mask: Tensor, probabilities: ClassProbabilities, bkg: Optional[float] = None
) -> np.ndarray:
    """The pixels of :func:`confidence_of` alone, float32 ``(H, W)``."""
    return _shown(mask, _of_labels(probabilities, bkg))


def _of_labels(
    probabilities: ClassProbabilities, bkg: Optional[float]
) -> ClassProbabilities:
    """Probabilities by which the largest one makes the mask.

    They sum to 1 if there is no threshold.
    """
    if bkg is not None:
        return even_odds(probabilities, bkg)
    probs = probabilities.probs
    probs = probs / probs.sum(0).clamp_min(torch.finfo(probs.dtype).tiny)
    return probabilities._replace(probs=probs)


def _shown(mask: Tensor, probabilities: ClassProbabilities) -> np.ndarray:
    """Probability of the label that each pixel shows."""
    shown = torch.zeros_like(probabilities.probs[0])
    for channel, label in zip(*probabilities):
        shown = torch.where(mask == label, channel, shown)
    return shown.clamp(0, 1).cpu().numpy()


def even_odds(probabilities: ClassProbabilities, bkg: float) -> ClassProbabilities:
    """Stretch the values of a map so that its threshold lies at 1/2.

    A map of small values can have its best threshold at .1: there a value of .3 is not
    doubtful, as it would be between two probabilities. With the threshold ``t`` a value
    ``v`` becomes ``(1 + (v - t) / (1 - t)) / 2`` above ``t`` and ``v / (2 t)`` up to it;
    the background is 1 - the largest of them. The mask that the threshold makes is then
    that of the largest probability.

    It is linear on both sides, so that confidence is the share of the way from the
    threshold to 0 or 1, for the smallest thresholds as well. The power of
    :func:`~mmseg_more.localization.move_threshold`, which bends maps for the CRF, makes
    the same mask but other confidences: with ``t = 0`` a value of .05 becomes .86 and one
    of .5 becomes .97, as if both were sure. The two agree at ``t = 1/2`` alone, where
    neither changes anything.

    Args:
        probabilities: Of maps, background first.
        bkg: ``t``, in [0, 1).
    """
    maps = probabilities.probs[1:]
    above = (1 + (maps - bkg) / (1 - bkg)) / 2
    below = maps / (2 * bkg) if bkg > 0 else torch.zeros_like(maps)
    maps = torch.where(maps > bkg, above, below)
    background = (
        1 - maps.amax(dim=0, keepdim=True)
        if len(maps)
        else torch.ones_like(probabilities.probs[:1])
    )
    return ClassProbabilities(torch.cat([background, maps]), probabilities.labels)


def expected_iou(mask: Tensor, probabilities: ClassProbabilities) -> float:
    """What mean IoU the mask would have if the probabilities were right.

    For each label that the mask shows, background included, with the probability ``p`` of
    that label and the pixels ``m`` that show it,

        sum(p over m) / (|m| + sum(p outside of m)),

    the expectation of the intersection over that of the union; then the mean.

    Args:
        mask: Dense labels ``(H, W)``.
        probabilities: Of the labels that may appear.

    Returns:
        In [0, 1].
    """
    sizes, insides, outsides = [], [], []
    for channel, label in zip(*probabilities):
        pixels = mask == label
        inside = (channel * pixels).sum(dtype=torch.float64)
        sizes.append(pixels.sum())
        insides.append(inside)
        outsides.append(channel.sum(dtype=torch.float64) - inside)
    size, inside, outside = (torch.stack(p).cpu() for p in (sizes, insides, outsides))
    shown = size > 0
    return float((inside / (size + outside))[shown].mean())


# ------------------------------------------------------------------- calibration
class ConfidenceCurve:
    """A rising step function from confidence to how often such a confidence is right.

    Zadrozny & Elkan, 2002: isotonic regression, here on the bins of a histogram, so that no
    pixel has to be kept.

    Args:
        edges: Where the steps begin and end, rising from 0 to 1, ``(S + 1,)``.
        values: What the confidence of each step becomes, not falling, in [0, 1], ``(S,)``.

    Raises:
        ValueError: If they are not such.
    """

    def __init__(self, edges: Sequence[float], values: Sequence[float]) -> None:
        try:
            self.edges = np.asarray(edges, dtype=np.float64)
            self.values = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f'a curve of confidence holds numbers: {error}') from error
        shapes = self.edges.ndim == self.values.ndim == 1 and len(self.values) > 0
        if not shapes or len(self.edges) != len(self.values) + 1:
            raise ValueError(
                'a curve of confidence needs S values and S + 1 edges, got '
                f'{self.values.shape} and {self.edges.shape}'
            )
        if (
            self.edges[0] != 0
            or self.edges[-1] != 1
            or not (np.diff(self.edges) > 0).all()
            or not (np.diff(self.values) >= 0).all()
            or not 0 <= self.values[0] <= self.values[-1] <= 1
        ):
            raise ValueError(
                'a curve of confidence needs edges that rise from 0 to 1 and values in '
                f'[0, 1] that do not fall, got {self.edges.tolist()} and '
                f'{self.values.tolist()}'
            )

    @classmethod
    def fit(cls, count: np.ndarray, quality: np.ndarray) -> 'ConfidenceCurve':
        """From a histogram of equal bins, by weighted isotonic regression.

        Args:
            count: Pixels (or images) of each bin, ``(S,)``.
            quality: Sum of what they are worth: 1 for a pixel that is right, the IoU of an
                image, ``(S,)``.

        Raises:
            ValueError: If nothing was counted.
        """
        from scipy.optimize import isotonic_regression

        count, quality = np.asarray(count, float), np.asarray(quality, float)
        filled = np.flatnonzero(count > 0)
        if not len(filled):
            raise ValueError('a curve of confidence cannot be fitted to nothing')
        mean = quality[filled] / count[filled]
        rising = isotonic_regression(mean, weights=count[filled]).x.clip(0, 1)
        # a bin that holds nothing takes the step of the nearest one below it
        steps = rising[
            (np.searchsorted(filled, np.arange(len(count)), 'right') - 1).clip(0)
        ]
        begins = np.flatnonzero(np.diff(steps, prepend=-1.0) > _DIFFERENCE)
        return cls([*(begins / len(count)), 1.0], steps[begins])

    def __call__(self, confidence: np.ndarray) -> np.ndarray:
        """Calibrated confidence, float32 of the same shape."""
        step = np.searchsorted(self.edges, confidence, 'right') - 1
        return self.values[step.clip(0, len(self.values) - 1)].astype(np.float32)

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return dict(
            edges=[round(float(v), 8) for v in self.edges],
            values=[round(float(v), 8) for v in self.values],
        )

    @classmethod
    def from_dict(cls, content: Any) -> 'ConfidenceCurve':
        """What :meth:`to_dict` gave.

        Raises:
            ValueError: If it is something else.
        """
        if not isinstance(content, Mapping) or set(content) != {'edges', 'values'}:
            raise ValueError(
                f'a curve of confidence has the keys edges and values, got {content!r}'
            )
        return cls(content['edges'], content['values'])


class ConfidenceCurves(NamedTuple):
    """What calibrates the masks of one recipe.

    Fitted by :class:`~mmseg_more.evaluation.ReliabilityMetric`.
    """

    pixel: ConfidenceCurve
    """From the probability of the shown label to how often it is right."""
    image: ConfidenceCurve
    """From the expected IoU of a mask to its mean IoU."""
    settings: Dict[str, Any]
    """``MaskRecipe.settings()`` of the masks that they were fitted to; empty: not known."""
    foreground: Optional[ConfidenceCurve] = None
    """Of pixels that show a class; ``pixel`` is then of those that show the background.
    None: ``pixel`` is of both."""

    def pixels(self, confidence: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Calibrated confidence of pixels, float32 of the same shape.

        Args:
            confidence: In [0, 1].
            mask: The labels that they show, of the same shape; 0 is background.
        """
        calibrated = self.pixel(confidence)
        if self.foreground is not None:
            shown = mask > 0
            calibrated[shown] = self.foreground(confidence[shown])
        return calibrated

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        content = dict(
            pixel=self.pixel.to_dict(), image=self.image.to_dict(), settings=self.settings
        )
        if self.foreground is not None:
            content['foreground'] = self.foreground.to_dict()
        return content

    @classmethod
    def from_dict(cls, content: Any) -> 'ConfidenceCurves':
        """What :meth:`to_dict` gave; ``settings`` and ``foreground`` may be left out.

        Raises:
            ValueError: If it is something else.
        """
        keys = set(content) if isinstance(content, Mapping) else set()
        if not {'pixel', 'image'} <= keys <= {*cls._fields}:
            raise ValueError(
                'the curves of confidence of a source have the keys pixel, image, settings '
                f'and foreground, got {sorted(keys) or content!r}'
            )
        foreground = content.get('foreground')
        return cls(
            ConfidenceCurve.from_dict(content['pixel']),
            ConfidenceCurve.from_dict(content['image']),
            dict(content.get('settings') or {}),
            None if foreground is None else ConfidenceCurve.from_dict(foreground),
        )

    def differences(self, settings: Mapping[str, Any]) -> List[str]:
        """What the masks that the curves were fitted to differ in from others.

        Args:
            settings: ``MaskRecipe.settings()`` of the others. Which classes may appear does
                not count.

        Returns:
            For a reader; empty where the curves are of these masks, or it is not known of
            which they are.
        """
        if not self.settings:
            return []
        now = json.loads(json.dumps(dict(settings)))  # a file knows no tuples
        return [
            f'{key} is {self.settings.get(key)} there, {now.get(key)} now'
            for key in _DECISIVE
            if self.settings.get(key) != now.get(key)
        ]


# ------------------------------------------------------------------------- a file
def confidence_png(pixels: np.ndarray) -> bytes:
    """An 8-bit gray PNG of confidence x 255.

    Args:
        pixels: ``(H, W)`` in [0, 1].
    """
    levels = np.rint(np.asarray(pixels, np.float32) * PIXEL_LEVELS).astype(np.uint8)
    return png(levels)
