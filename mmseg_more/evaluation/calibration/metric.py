"""Chooses the background thresholds of maps from image labels and the model alone."""

import math
from logging import WARNING
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from mmengine.logging import MMLogger, print_log
from prettytable import PrettyTable
from torch import Tensor

from mmseg.registry import METRICS

from ...masks.calibration import (
    CALIBRATED_MAPS,
    SCALE_KINDS,
    Calibration,
    MapThreshold,
    check_replaceable,
)
from ...masks.probabilities import seg_probabilities
from ...models.structures import LocalizationRequest
from ..counting import CountingMetric
from ..functional import (
    confusion_at_thresholds,
    default_thresholds,
    mean_iou,
    threshold_histogram,
)
from ..protocols.report import PROTOCOLS
from ..report import COLUMN_TITLES
from ..sample import read_field, read_pixels, read_scores
from ..thresholds import strongest_class

CRITERION = 'mIoU with the segmentation of the classes of the image label'
"""What is largest at the chosen threshold."""
THRESHOLDS = (0.001, 0.002, 0.005, *default_thresholds(0.01))
"""Those to choose from."""
MIN_IMAGES = 5
"""Images that must show a class before it gets a threshold of its own."""
MAX_COVERAGE = 0.5
"""Share of the images that show a class, above which the stand-in is not believed that all
of it is this class: it gets no threshold of its own."""
_IMAGES, _PIXELS = 'images', 'pixels'


@METRICS.register_module()
class CalibrationMetric(CountingMetric):
    """Choose the background threshold of CAM, LAM and fused map without masks.

    The segmentation head, allowed to show the classes of the image label alone, stands in
    for the truth: the threshold of a map is the one at which its labels agree best with
    it, by mIoU over all images. That of a class is the geometric mean of it and of the one
    at which the IoU of this class is largest: halfway, since single classes of the
    stand-in err more than its mean. A class to which the stand-in gives more than
    ``MAX_COVERAGE`` of the images that show it may have taken the background along: pixels
    that it or the map gives to this class do not count, unless there is no other class.
    All of ``THRESHOLDS`` are counted in one pass.
    docs/quality.md has what this choice loses against the one that true masks would make.

    The maps come from :class:`LocalizationHook`, at scale 1 and at several scales;
    ``tools/test.py --calibrate FILE`` (:func:`~mmseg_more.evaluation.use_calibration`) puts
    both into a config. Only counts are kept, and in distributed runs every image counts
    once, see :class:`~mmseg_more.evaluation.counting.CountingMetric`.

    Keys: ``cam/raw/threshold`` in [0, 1), ``cam/raw/agreement`` (mIoU in percent),
    ``cam/ms/threshold`` and so on for ``lam`` and ``fused``.

    Args:
        out_file: File for the thresholds
            (:class:`~mmseg_more.masks.Calibration`).
        per_class: Whether each class gets a threshold of its own as well, if at
            least ``MIN_IMAGES`` images show it, and the segmentation does not give it more
            than ``MAX_COVERAGE`` of them. Defaults to True.
        source: What else the file shall say of where they come from.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`.
    """

    def __init__(
        self,
        out_file: str,
        per_class: bool = True,
        source: Optional[Mapping[str, Any]] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_replaceable(out_file)
        self.out_file = out_file
        self.per_class = per_class
        self.source = dict(source or {})
        self.localization_request: Optional[LocalizationRequest] = None

    # ------------------------------------------------------------ per image
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch.

        Args:
            data_batch: Not used.
            data_samples: Samples of the model as dicts, with
                ``gt_score``, ``seg_logits``, ``map_indices`` and the maps.

        Raises:
            KeyError: If one of these is missing.
            ValueError: If the request has not scale 1 and several scales, or shapes do
                not fit each other.
        """
        request = self.localization_request
        if (
            request is None
            or not request.ms_scales
            or {1.0} != {*request.cam_scales, *request.lam_scales}
            or request.policy != 'image-labels'
        ):
            raise ValueError(
                'CalibrationMetric needs dict(type="LocalizationHook", cam_scales=(1.,), '
                'lam_scales=(1.,), ms_scales=..., policy="image-labels") among '
                'custom_hooks, as use_calibration puts it there; the request is '
                f'{request}'
            )
        for sample in data_samples:
            self._add(self._new_image(()), self._count(sample))

    def _count(self, sample: dict) -> Dict[str, Tensor]:
        """Histograms of one image by map, on the CPU."""
        num_classes = self._num_classes()
        indices = read_field(sample, 'map_indices')
        present = read_scores(sample, 'gt_score', num_classes)
        target = self.target(sample)
        size = tuple(target.shape)
        counts = {
            name: torch.zeros(num_classes, dtype=torch.long) for name in (_IMAGES, _PIXELS)
        }
        counts[_IMAGES][indices.cpu()] = 1
        counts[_PIXELS][indices.cpu()] = target.numel()
        for kind, suffix in zip(SCALE_KINDS, ('', '_ms')):
            for name in CALIBRATED_MAPS:
                maps = read_pixels(sample, name + suffix, len(indices), size)
                value, label = strongest_class(maps, present, indices)
                counts[f'{name}/{kind}'] = threshold_histogram(
                    label,
                    value,
                    target,
                    torch.tensor(THRESHOLDS, dtype=torch.float64),
                    num_classes,
                ).cpu()
        return counts

    def target(self, sample: dict) -> Tensor:
        """What stands in for the truth of an image: dense labels, int64 ``(H, W)``."""
        size = tuple(read_field(sample, 'seg_logits')['data'].shape[-2:])
        logits = read_pixels(sample, 'seg_logits', self._num_classes() + 1, size)
        probs, labels = seg_probabilities(logits, read_field(sample, 'map_indices'))
        return labels[probs.argmax(0)]

    # ------------------------------------------------------------ all images
    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        """Choose, write the file, and show it.

        Args:
            results: One for each image.
        """
        if not results:
            raise ValueError('no image was seen: the data set is empty')
        names = self.dataset_meta['classes'][1:]
        thresholds: Dict[str, Dict[str, MapThreshold]] = {kind: {} for kind in SCALE_KINDS}
        metrics: Dict[str, float] = {}
        doubtful = self._doubtful_classes()
        own_choice = (self._counts[_IMAGES] >= MIN_IMAGES) & ~doubtful & self.per_class
        for name in CALIBRATED_MAPS:
            for kind in SCALE_KINDS:
                key = f'{name}/{kind}'
                histogram = without_classes(self._counts[key], doubtful)
                bkg, agreement = choose_threshold(histogram)
                metrics[f'{key}/threshold'] = bkg
                metrics[f'{key}/agreement'] = 100 * agreement
                own = (choose_class_thresholds(histogram) * bkg).sqrt()
                thresholds[kind][name] = MapThreshold(
                    bkg,
                    {
                        names[i]: round(own[i].item(), 4)
                        for i in range(len(names))
                        if own_choice[i] and not own[i].isnan()
                    },
                )
        self._save(thresholds, metrics, len(results))
        return metrics

    def _doubtful_classes(self) -> Tensor:
        """Classes whose stand-in is not believed, bool ``(K,)``; a warning names them."""
        shown = self._counts[f'{CALIBRATED_MAPS[0]}/{SCALE_KINDS[0]}'][1:].sum((1, 2))
        coverage = shown / self._counts[_PIXELS]
        doubtful = (self._counts[_IMAGES] >= MIN_IMAGES) & (coverage > MAX_COVERAGE)
        if doubtful.any():
            names = self.dataset_meta['classes'][1:]
            listed = ', '.join(
                f'{names[i]} {coverage[i]:.0%}' for i in doubtful.nonzero().flatten()
            )
            print_log(
                'the segmentation gives most of the images that show them to these '
                f'classes: {listed}. They may have taken the background along, and do not '
                'count for the thresholds, unless there is no other; look at masks before '
                'you trust any threshold',
                MMLogger.get_current_instance(),
                WARNING,
            )
        return doubtful

    def _save(
        self,
        thresholds: Mapping[str, Mapping[str, MapThreshold]],
        metrics: Mapping[str, float],
        num_images: int,
    ) -> None:
        """Write the file, and show what is in it."""
        request = self.localization_request
        assert request is not None  # process() has seen to it
        source = dict(
            self.source,
            num_images=num_images,
            ms_scales=list(request.ms_scales),
            criterion=CRITERION,
            agreement={
                key.rsplit('/', 1)[0]: None if math.isnan(value) else round(value, 2)
                for key, value in metrics.items()
                if key.endswith('/agreement')
            },
        )
        Calibration(thresholds, source).save(self.out_file)
        logger = MMLogger.get_current_instance()
        print_log(
            f'background thresholds by {num_images} images, without masks (in parentheses '
            f'{CRITERION}, in percent):\n'
            + _table(thresholds, metrics, self.dataset_meta['classes'][1:]),
            logger,
        )
        print_log(f'the thresholds are in {self.out_file}', logger)


def without_classes(histogram: Tensor, left_out: Tensor) -> Tensor:
    """Counts of the pixels that neither labelling gives to some classes.

    Args:
        histogram: ``(C, K, S + 1)`` of :func:`threshold_histogram`.
        left_out: Those classes, bool ``(K,)``. If they are all, they stay.

    Returns:
        The same counts, 0 for what is left out.
    """
    if left_out.all():
        return histogram
    histogram = histogram.clone()
    histogram[1:][left_out] = 0
    histogram[:, left_out] = 0
    return histogram


def choose_threshold(histogram: Tensor) -> Tuple[float, float]:
    """The threshold of a map at which its labels agree best with another labelling.

    Args:
        histogram: ``(C, K, S + 1)`` of :func:`threshold_histogram` at ``THRESHOLDS``,
            summed over images, with the other labelling as the truth.

    Returns:
        The threshold (the smallest of the best) and the mIoU there, in [0, 1]; of
        images without any label .5 and NaN.
    """
    score = torch.tensor(
        [mean_iou(matrix) for matrix in confusion_at_thresholds(histogram)],
        dtype=torch.float64,
    )
    if score.isnan().all():
        return 0.5, math.nan
    best = int(score.nan_to_num(-1).argmax())
    return THRESHOLDS[best], score[best].item()


def choose_class_thresholds(histogram: Tensor) -> Tensor:
    """For each class the threshold at which its IoU with another labelling is largest.

    The pixels in which a class is the strongest do not depend on any threshold. So the
    IoU of a class depends on its own threshold alone, and all are chosen by themselves.

    Args:
        histogram: As in :func:`choose_threshold`.

    Returns:
        ``(K,)`` float64 in (0, 1); the smallest of the best, and NaN for a class that the
        other labelling does not show.
    """
    above = histogram.flip(-1).cumsum(-1).flip(-1)[..., 1:]  # (C, K, S)
    right = above[1:].diagonal().T  # (K, S)
    true = histogram[1:].sum((1, 2))[:, None]
    iou = right / (true + above.sum(0) - right)
    chosen = torch.tensor(THRESHOLDS, dtype=torch.float64)[iou.nan_to_num(-1).argmax(1)]
    return chosen.masked_fill(true[:, 0] == 0, math.nan)


def _table(
    thresholds: Mapping[str, Mapping[str, MapThreshold]],
    metrics: Mapping[str, float],
    classes: Sequence[str],
) -> str:
    """A row for all classes and one for each that has thresholds of its own."""
    columns = [(name, kind) for name in CALIBRATED_MAPS for kind in SCALE_KINDS]
    table = PrettyTable(
        ['class', *(f'{COLUMN_TITLES[name]}, {PROTOCOLS[kind]}' for name, kind in columns)]
    )
    table.align = 'r'
    table.align['class'] = 'l'
    table.add_row(
        ['all']
        + [
            f'{thresholds[kind][name].bkg:g} ({metrics[f"{name}/{kind}/agreement"]:.1f})'
            for name, kind in columns
        ]
    )
    for title in classes:
        own = [thresholds[kind][name].classes.get(title) for name, kind in columns]
        if any(value is not None for value in own):
            table.add_row([title] + ['-' if v is None else f'{v:g}' for v in own])
    return table.get_string()
