"""How healthy a training is, judged without masks: counts -> figures -> score.

What the maps of one image say of it can be compared without any truth: with the image's
labels, with each other, with those of the flipped and the scaled image, and with where
objects usually are (seldom all along the border). Sums over images are kept, not images.

``B`` images, ``K`` foreground classes, ``h, w`` the patch grid. Dense labels at grid size:
0 background, ``k + 1`` class ``k``, 255 ignored. A *class's images* are those whose labels
name it.
"""

import math
from typing import Dict, NamedTuple

import torch
from torch import Tensor

from ...localization import IGNORE_INDEX, maps_to_labels, normalize_maps, resize_map
from ..counting import accumulate

AGREEMENTS = ('cam_lam', 'cam_seg', 'lam_seg')
"""Pairs of a view's label maps that are compared."""
CONSISTENCIES = ('flip', 'scale', 'seg_flip', 'seg_scale')
"""Views that the CAM (and the segmentation) is compared with."""
_BORDERS = dict(coverage='border', lam='lam_border', seg='seg_border')


class RawMaps(NamedTuple):
    """Maps of one view of a batch, at the grid of the first view."""

    cam: Tensor
    """CAM, negative values at 0, any range above, ``(B, K, h, w)``."""
    lam: Tensor
    """LAM, any range, ``(B, K, h, w)``."""
    segmentation: Tensor
    """Segmentation logits ``(B, K+1, h, w)``."""

    def at(self, grid: torch.Size) -> 'RawMaps':
        """Resized bilinearly to ``grid = (h, w)``."""
        return RawMaps(*(resize_map(value, grid) for value in self))

    def flipped(self) -> 'RawMaps':
        """Mirrored left and right."""
        return RawMaps(*(value.flip(-1) for value in self))


class Thresholds(NamedTuple):
    """At which values maps in [0, 1] become labels."""

    high: float
    """CAMs above it are a class (``model.pseudo_label.high``)."""
    low: float
    """CAMs up to it are background (``model.pseudo_label.low``)."""
    bkg: float
    """LAMs up to it are background (``model.pseudo_label.bkg``)."""


class HealthFigures(NamedTuple):
    """Figures of one check; those of classes are float64 ``(K,)``, shares in [0, 1].

    NaN where nothing was to be seen: no image of the class, or no pixel to compare.
    """

    images: Tensor
    """Images of the class that were looked at."""
    sure: Tensor
    """Share of the pixels of the class's images whose CAM label is the class, above
    ``high``: what the losses take for it."""
    coverage: Tensor
    """The same above ``low``: all that is not left to the background."""
    lam: Tensor
    """The same by the LAM."""
    seg: Tensor
    """The same by the segmentation, over all classes."""
    border: Tensor
    """As ``coverage``, of the outermost ring of patches."""
    lam_border: Tensor
    """As ``lam``, of the outermost ring of patches."""
    seg_border: Tensor
    """As ``seg``, of the outermost ring of patches."""
    missing: Tensor
    """Share of the class's images whose segmentation shows no patch of it."""
    false_alarm: Tensor
    """Share of the other images whose segmentation shows one."""
    recognised: Tensor
    """Share of the class's images in which the classifier sees it (logit above 0)."""
    agreement: Dict[str, Tensor]
    """IoU of two label maps of the class, over the class's images, by
    :data:`AGREEMENTS`. What the CAM leaves open (255) is not compared."""
    consistency: Dict[str, Tensor]
    """IoU of a label map and that of another view, by :data:`CONSISTENCIES`."""
    ignored: float
    """Share of all pixels whose CAM label is 255, between ``low`` and ``high``."""
    entropy: float
    """Mean entropy of the segmentation's probabilities, over that of chance."""


class HealthCounts:
    """Sums over the images of a check.

    Args:
        num_classes: K.
        thresholds: When a map is a class.
    """

    def __init__(self, num_classes: int, thresholds: Thresholds) -> None:
        self.num_classes = num_classes
        self.thresholds = thresholds
        self.sums: Dict[str, Tensor] = {}

    def add(
        self,
        image: RawMaps,
        flip: RawMaps,
        scaled: RawMaps,
        scores: Tensor,
        present: Tensor,
    ) -> None:
        """Count a batch.

        Args:
            image: Maps of the images as they are.
            flip: Maps of the mirrored images, mirrored back.
            scaled: Maps of the images at another size, at the grid of ``image``.
            scores: Image logits ``(B, K)`` of the images as they are.
            present: Multi-hot image labels ``(B, K)``.
        """
        present = present.bool()
        # the CAM of the training is the maximum of both
        merged = normalize_maps(torch.maximum(image.cam, flip.cam))
        _, low, bkg = self.thresholds
        labels = dict(
            sure=maps_to_labels(merged, present, *self.thresholds[:2]),
            coverage=maps_to_labels(merged, present, low),
            lam=maps_to_labels(
                normalize_maps(torch.maximum(image.lam, flip.lam)), present, bkg
            ),
            seg=image.segmentation.argmax(1),
        )
        views = {
            '': maps_to_labels(normalize_maps(image.cam), present, low),
            'flip': maps_to_labels(normalize_maps(flip.cam), present, low),
            'scale': maps_to_labels(normalize_maps(scaled.cam), present, low),
            'seg_flip': flip.segmentation.argmax(1),
            'seg_scale': scaled.segmentation.argmax(1),
        }
        pairs = dict(
            cam_lam=(labels['sure'], labels['lam']),
            cam_seg=(labels['sure'], labels['seg']),
            lam_seg=(labels['lam'], labels['seg']),
            flip=(views[''], views['flip']),
            scale=(views[''], views['scale']),
            seg_flip=(labels['seg'], views['seg_flip']),
            seg_scale=(labels['seg'], views['seg_scale']),
        )
        counts = self._count_coverage(labels, present)
        counts['recognised'] = ((scores > 0) & present).sum(0)
        for name, (one, two) in pairs.items():
            counts[name] = self._overlap(one, two, present)
        counts['all'] = torch.stack(
            [
                torch.as_tensor(labels['sure'].numel(), device=present.device),
                (labels['sure'] == IGNORE_INDEX).sum(),
                _relative_entropy(image.segmentation).sum(),
            ]
        ).double()
        accumulate(
            self.sums, {name: count.cpu().double() for name, count in counts.items()}
        )

    def _count_coverage(
        self, labels: Dict[str, Tensor], present: Tensor
    ) -> Dict[str, Tensor]:
        """Pixels of each class in the class's images, ``(K,)`` by name."""
        grid = labels['seg'].shape[-2:]
        ring = torch.ones(grid, dtype=torch.bool, device=present.device)
        ring[1:-1, 1:-1] = False
        counts = dict(
            images=present.sum(0),
            others=(~present).sum(0),
            pixels=present.sum(0) * ring.numel(),
            ring=present.sum(0) * ring.sum(),
        )
        for name, label in labels.items():
            shown = self._per_class(label)  # (B, K, h*w), bool
            counts[name] = (shown.sum(-1) * present).sum(0)
            of_ring = (shown[..., ring.flatten()].sum(-1) * present).sum(0)
            if name in _BORDERS:
                counts[_BORDERS[name]] = of_ring
            if name == 'seg':
                counts['missing'] = (~shown.any(-1) & present).sum(0)
                counts['false_alarm'] = (shown.any(-1) & ~present).sum(0)
        return counts

    def _overlap(self, one: Tensor, two: Tensor, present: Tensor) -> Tensor:
        """Intersection and union of each class in the class's images, ``(2, K)``."""
        compared = ((one != IGNORE_INDEX) & (two != IGNORE_INDEX)).flatten(1)[:, None]
        first, second = (self._per_class(label) & compared for label in (one, two))
        both, any_ = (first & second).sum(-1), (first | second).sum(-1)
        return torch.stack([(count * present).sum(0) for count in (both, any_)])

    def _per_class(self, label: Tensor) -> Tensor:
        """Where each class is, bool ``(B, K, h*w)``."""
        classes = torch.arange(1, self.num_classes + 1, device=label.device)
        return label.flatten(1)[:, None] == classes[None, :, None]

    def figures(self) -> HealthFigures:
        """What the sums say.

        Raises:
            ValueError: If no image has been counted.
        """
        if not self.sums:
            raise ValueError('no image has been looked at')
        sums = self.sums
        of_pixels = {
            name: sums[name] / sums['pixels'] for name in ('sure', 'coverage', 'lam', 'seg')
        }
        total, ignored, entropy = sums['all'].tolist()
        iou = {name: sums[name][0] / sums[name][1] for name in AGREEMENTS + CONSISTENCIES}
        return HealthFigures(
            images=sums['images'],
            **of_pixels,
            **{name: sums[name] / sums['ring'] for name in _BORDERS.values()},
            missing=sums['missing'] / sums['images'],
            false_alarm=sums['false_alarm'] / sums['others'],
            recognised=sums['recognised'] / sums['images'],
            agreement={name: iou[name] for name in AGREEMENTS},
            consistency={name: iou[name] for name in CONSISTENCIES},
            ignored=ignored / total,
            entropy=entropy / total,
        )


def _relative_entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax over dim 1, over the logarithm of the number of labels."""
    log_probs = logits.float().log_softmax(1)
    return -(log_probs.exp() * log_probs).sum(1) / math.log(logits.shape[1])


def class_health(figures: HealthFigures) -> Tensor:
    """Health of each class, float64 ``(K,)`` in [0, 1]; NaN without an image of it.

    ``q_k = (a_k + c_k + l_k) / 3 * (1 - b_k)``, where what is not defined counts as 0:

    * ``a``: mean IoU of CAM, LAM and segmentation with each other;
    * ``c``: mean IoU of CAM and segmentation with those of the flipped and scaled image;
    * ``l``: how well the segmentation keeps to the image labels, 1 less the mean of
      ``missing`` and ``false_alarm``;
    * ``b``: the larger share of the border that CAM or segmentation cover. A class that
      floods loses by it; one that dies has no IoU.
    """
    agreement = torch.stack(list(figures.agreement.values())).nan_to_num(0).mean(0)
    consistency = torch.stack(list(figures.consistency.values())).nan_to_num(0).mean(0)
    wrong = torch.stack([figures.missing, figures.false_alarm]).nanmean(0)
    border = torch.maximum(figures.border, figures.seg_border)
    health = (agreement + consistency + 1 - wrong) / 3 * (1 - border)
    return health.masked_fill(figures.images == 0, torch.nan)


def health_score(figures: HealthFigures) -> float:
    """One figure in [0, 100], higher is better: the mean of :func:`class_health`.

    NaN if no class has an image.
    """
    return 100 * class_health(figures).nanmean().item()
