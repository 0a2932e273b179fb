"""Whether masks know how good they are: calibration, and finding the bad ones."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.logging import MMLogger, print_log
from prettytable import PrettyTable
from torch import Tensor

from mmseg.registry import METRICS

from ...files import read_rgb
from ...masks.calibration import Calibration, as_calibration
from ...masks.confidence import ConfidenceCurve, ConfidenceCurves
from ...masks.maker import MadeMask
from ...masks.probabilities import ClassProbabilities
from ...masks.recipe import SOURCES, MaskRecipe
from ..functional import confusion_matrix
from ..mask_metric import MaskMetric
from ..report import write_json
from ..sample import read_indices, read_pixels, read_prediction, read_truth
from .figures import (
    Rejection,
    Reliability,
    confidence_histogram,
    image_error,
    rejection,
    reliability,
)

FINE_BINS = 256
"""Bins of the histogram that is kept; those of a diagram are merged from them."""
_CURVE_POINTS = 101  # of the error against rejection, in the JSON file


class _Payload(NamedTuple):
    """What a mask is compared with once it is made."""

    image: int
    truth: Tensor
    figures: Dict[str, float]


@METRICS.register_module()
class ReliabilityMetric(MaskMetric):
    """Score the confidence of masks: of their pixels, and of each mask as a whole.

    The masks are those that ``PseudoLabelHook`` writes by the same options, and their
    confidence is that of the manifest. Two questions, for each source:

    * *Is it calibrated?* Of the pixels with a confidence of .8, are 80 % right? The
      reliability histogram and the expected calibration error (ECE) say; likewise of the
      images, whose confidence is the expected mIoU.
    * *Does it find bad masks?* The images are ordered by their confidence: the error
      (``1 - mIoU`` of the image, over the labels that mask or truth show) of those that
      are left when the least certain are rejected, and the area under that curve (AURC).

    Pixels are counted in a histogram, so memory does not grow with them; of an image two
    numbers are kept. In distributed runs every image counts once.

    Keys, for a source such as ``lam``, in percent but for the last: ``lam/ECE``,
    ``lam/ECE_foreground`` (of the pixels that show a class), ``lam/bias`` (confidence -
    accuracy), ``lam/AURC``, ``lam/AURC_mean`` (by the mean confidence of pixels, to compare
    with), ``lam/AURC_ideal``, ``lam/AURC_random``, ``lam/image_ECE``,
    ``lam/image_bias``, ``lam/Brier`` (mean square of confidence - right, in [0, 1]) and
    ``lam/excess_AURC`` (0 the ideal order, 1 chance).

    Args:
        sources: Some of 'lam', 'cam', 'fused' and 'seg'.
        bkg: Threshold of a map, one for all or one for each by its name, where no
            ``calibration`` holds any.
        num_bins: Of the reliability diagram, a divisor of 256. Of the image figures there
            are always 8 bins.
        calibration: A file (:class:`~mmseg_more.masks.Calibration`) whose thresholds make
            the masks. The confidence that is scored is calibrated by its curves.
        curves_file: Such a file to write curves into, fitted to these masks. What else it
            holds stays, and of ``calibration`` only the thresholds count.
        num_workers: Processes for the CRF, as in :class:`~mmseg_more.masks.MaskMaker`.
        ignore_index: Label of pixels that do not count.
        out_json: File to write to: the keys above; of each source under ``settings`` how
            its masks were made and under ``calibrated`` whether curves were applied; and
            ``reliability`` and ``rejection``, what ``tools/analysis/plot_reliability.py``
            draws.
        backend_args: Where the images are read from, as in ``LoadImageFromFile``.
        collect_device: As in :class:`BaseMetric`.
        prefix: As in :class:`BaseMetric`.
        recipe: Other options of :class:`~mmseg_more.masks.MaskRecipe`.

    Example:
        >>> test_evaluator = dict(type='ReliabilityMetric', sources=('lam',), crf=True,
        ...                       out_json='reliability.json')

    ``tools/test.py CONFIG CHECKPOINT --reliability JSON`` puts it into a config, with the
    hook that asks for the maps (:func:`~mmseg_more.evaluation.use_reliability`).
    """

    def __init__(
        self,
        sources: Sequence[str] = ('lam', 'seg'),
        bkg: Union[float, Mapping[str, float]] = 0.5,
        num_bins: int = 16,
        calibration: Union[str, Calibration, None] = None,
        curves_file: Optional[str] = None,
        num_workers: Optional[int] = None,
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        backend_args: Optional[dict] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        **recipe: Any,
    ) -> None:
        super().__init__(
            num_workers, ignore_index, out_json, backend_args, collect_device, prefix
        )
        unknown = [source for source in sources if source not in SOURCES]
        if isinstance(sources, str) or not sources or unknown:
            raise ValueError(
                f'sources must be a list of some of {SOURCES}, got {sources!r}'
            )
        if num_bins < 1 or FINE_BINS % num_bins:
            raise ValueError(f'num_bins must be a divisor of {FINE_BINS}, got {num_bins}')
        if 'source' in recipe:
            raise ValueError("give sources=('lam',), not source='lam'")
        calibration = None if calibration is None else as_calibration(calibration)
        if calibration is not None and curves_file is not None:
            calibration = replace(calibration, confidence={})
        self.recipes = {
            source: _recipe(source, bkg, calibration, recipe) for source in sources
        }
        self.curves_file = curves_file
        self._file()  # what is wrong with it is said now
        self.num_bins = num_bins

    # ------------------------------------------------------------ per image
    def _decide(self, sample: dict) -> Dict[str, MaskRecipe]:
        """The recipes, by what the model and the data give."""
        with_labels = 'gt_label' in sample or 'gt_score' in sample
        localizes = self.localization_request is not None
        decided = {
            source: recipe.resolve(localizes, with_labels).calibrated(
                self.dataset_meta['classes'][1:], None, lambda: 0.5
            )
            for source, recipe in self.recipes.items()
        }
        for recipe in decided.values():
            if recipe.scales:
                recipe.request(self.localization_request)  # as the hook asked for them
        return decided

    def _process_image(self, sample: dict) -> None:
        if not self._makers:
            self._open_makers(self._decide(sample))
        num_labels = self._num_classes() + 1
        truth = read_truth(sample, num_labels, self.ignore_index)
        size = tuple(truth.shape)
        pred = read_prediction(sample, num_labels, size)
        probabilities = {
            source: self._probabilities(maker.recipe, sample, size)
            for source, maker in self._makers.items()
        }
        figures: Dict[str, float] = {}
        payload = _Payload(self._new_image((figures,)), truth.cpu(), figures)
        image = partial(read_rgb, str(sample.get('img_path')), size, self.backend_args)
        for source, maker in self._makers.items():
            if maker.recipe.is_prediction:
                made = maker.add_mask(pred, probabilities[source], payload)
            else:
                title = f'{sample.get("img_path")} ({source})'
                made = maker.add(title, probabilities[source], image, payload)
            self._collect(source, made)

    def _probabilities(
        self, recipe: MaskRecipe, sample: Any, size: Sequence[int]
    ) -> ClassProbabilities:
        indices = read_indices(sample, self._num_classes())
        channels = self._num_classes() + 1 if recipe.source == 'seg' else len(indices)
        values = read_pixels(sample, recipe.field, channels, size)
        return recipe.class_probabilities(values, recipe.allowed(sample), indices)

    def _count_mask(self, name: str, made: MadeMask) -> None:
        assert made.mask is not None and made.mask_confidence is not None
        mask, truth = torch.from_numpy(made.mask).long(), made.payload.truth
        valid, right = truth != self.ignore_index, mask == truth
        pixels = torch.from_numpy(made.mask_confidence.pixels)
        shown = valid & (mask > 0)
        counts = {
            f'{name}/pixels': confidence_histogram(pixels, right, FINE_BINS, valid),
            f'{name}/shown': confidence_histogram(pixels, right, FINE_BINS, shown),
            f'{name}/square': (pixels - right.float())[valid].double().square().sum(),
        }
        self._add(made.payload.image, counts)
        confusion = confusion_matrix(
            mask, truth, self._num_classes() + 1, self.ignore_index
        )
        made.payload.figures[f'{name}/confidence'] = made.mask_confidence.image
        made.payload.figures[f'{name}/mean'] = float(pixels.double().mean())
        made.payload.figures[f'{name}/error'] = image_error(confusion)

    # ------------------------------------------------------------ all images
    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        """Figures from the summed counts and the two numbers of each image.

        Args:
            results: A dict of each image, in a tuple.
        """
        if not results:
            raise ValueError('no image was evaluated: the data set is empty')
        classes = self.dataset_meta['classes'][1:]
        made_by = {source: maker.recipe for source, maker in self._makers.items()}
        about: Dict[str, Any] = dict(
            settings={s: recipe.settings(classes) for s, recipe in made_by.items()},
            calibrated={s: recipe.curves is not None for s, recipe in made_by.items()},
        )
        metrics: Dict[str, float] = {}
        drawn: Dict[str, Any] = dict(reliability={}, rejection={})
        fitted: Dict[str, ConfidenceCurves] = {}
        for source in self.recipes:
            scored = _Scored.of(source, self._counts, results, self.num_bins)
            metrics.update({f'{source}/{k}': v for k, v in scored.figures().items()})
            drawn['reliability'][source] = dict(
                pixels=scored.pixels.to_dict(),
                foreground=scored.foreground.to_dict(),
                images=scored.images.to_dict(),
            )
            if scored.rejection is not None:
                drawn['rejection'][source] = _rejection_to_dict(scored.rejection)
            if scored.curves:
                settings = about['settings'][source]
                fitted[source] = scored.curves._replace(settings=settings)
        calibrated = ', '.join(s for s, recipe in made_by.items() if recipe.curves)
        print_log(
            f'confidence of the masks of {len(results)} images, in percent (calibrated: '
            f'{calibrated or "none"}):\n' + _format(metrics, list(self.recipes)),
            MMLogger.get_current_instance(),
        )
        if self.out_json:
            write_json(
                self.out_json, dict(metrics, num_images=len(results), **about, **drawn)
            )
        if self.curves_file:
            self._file().with_confidence(fitted).save(self.curves_file)
            print_log(
                f'curves of confidence ({", ".join(fitted) or "none"}) are in '
                f'{self.curves_file}',
                MMLogger.get_current_instance(),
            )
        return metrics

    def _file(self) -> Calibration:
        """What the file holds that curves are written into."""
        if not self.curves_file or not Path(self.curves_file).expanduser().exists():
            return Calibration()
        return Calibration.load(self.curves_file)


def _recipe(
    source: str,
    bkg: Union[float, Mapping[str, float]],
    calibration: Optional[Calibration],
    options: Mapping[str, Any],
) -> MaskRecipe:
    """How masks of one of several sources are made, by the options of them all."""
    given = dict(options)
    if source == 'seg':  # thresholds are of maps
        given.pop('background', None)
        given.pop('class_bkg', None)
    elif calibration is None or not calibration.thresholds:
        given['bkg'] = bkg.get(source, 0.5) if isinstance(bkg, Mapping) else bkg
    if calibration is not None:
        of_maps = calibration.thresholds and source != 'seg'
        if of_maps or source in calibration.confidence:
            given['calibration'] = calibration
    return MaskRecipe().replace(source=source, **given)


class _Scored(NamedTuple):
    """What is known of the masks of one source."""

    pixels: Reliability
    foreground: Reliability
    images: Reliability
    rejection: Optional[Rejection]
    """None where no image has a pixel that counts."""
    aurc_of_mean: float
    brier: float
    curves: Optional[ConfidenceCurves]
    """Without settings; None like ``rejection``."""

    @classmethod
    def of(
        cls, source: str, counts: Mapping[str, Tensor], results: List[tuple], num_bins: int
    ) -> '_Scored':
        pixels, shown = counts[f'{source}/pixels'], counts[f'{source}/shown']
        confidence, mean, error = (
            np.array([figures[f'{source}/{name}'] for (figures,) in results])
            for name in ('confidence', 'mean', 'error')
        )
        known = ~np.isnan(error)
        confidence, mean, error = confidence[known], mean[known], error[known]
        images = confidence_histogram(
            torch.from_numpy(confidence), torch.from_numpy(1 - error), FINE_BINS
        )
        number = float(pixels[0].sum())
        curves = None
        if known.any():
            curves = _fit_curves(pixels, shown, images)
        return cls(
            reliability(pixels, num_bins),
            reliability(shown, num_bins),
            reliability(images, _IMAGE_BINS),
            rejection(confidence, error) if known.any() else None,
            rejection(mean, error).aurc if known.any() else float('nan'),
            float(counts[f'{source}/square']) / number if number else float('nan'),
            curves,
        )

    def figures(self) -> Dict[str, float]:
        nan = float('nan')
        order = self.rejection
        return {
            'ECE': 100 * self.pixels.ece,
            'ECE_foreground': 100 * self.foreground.ece,
            'bias': 100 * self.pixels.bias,
            'image_ECE': 100 * self.images.ece,
            'image_bias': 100 * self.images.bias,
            'AURC': 100 * float(order.aurc) if order else nan,
            'AURC_mean': 100 * self.aurc_of_mean,
            'AURC_ideal': 100 * float(order.ideal) if order else nan,
            'AURC_random': 100 * float(order.random) if order else nan,
            'excess_AURC': float(order.excess) if order else nan,
            'Brier': self.brier,
        }


_IMAGE_BINS = 8  # there are hundreds of images, not millions


def _fit_curves(pixels: Tensor, shown: Tensor, images: Tensor) -> ConfidenceCurves:
    """From the histograms of all pixels, of those that show a class, and of the images."""
    background = pixels - shown
    if not (shown[0].any() and background[0].any()):
        return ConfidenceCurves(_fit(pixels), _fit(images), {})
    return ConfidenceCurves(_fit(background), _fit(images), {}, _fit(shown))


def _fit(histogram: Tensor) -> ConfidenceCurve:
    return ConfidenceCurve.fit(histogram[0].numpy(), histogram[2].numpy())


def _rejection_to_dict(order: Rejection) -> Dict[str, Any]:
    """Error (in [0, 1]) against the share of images that were rejected."""
    number = len(order.risk)
    left = np.unique(np.linspace(1, number, min(number, _CURVE_POINTS)).round().astype(int))
    left = left[::-1]  # from nothing rejected on
    return dict(
        rejected=[round(1 - n / number, 6) for n in left.tolist()],
        error=[round(float(order.risk[n - 1]), 6) for n in left],
        ideal=[round(float(order.ideal_risk[n - 1]), 6) for n in left],
        random=float(order.random),
        aurc=float(order.aurc),
        aurc_ideal=float(order.ideal),
    )


def _format(metrics: Mapping[str, float], sources: Sequence[str]) -> str:
    table = PrettyTable(['figure', *sources])
    table.align = 'r'
    table.align['figure'] = 'l'
    names = [key.split('/')[1] for key in metrics if key.startswith(f'{sources[0]}/')]
    for name in names:
        digits = 4 if name == 'Brier' else 2
        values = [metrics[f'{source}/{name}'] for source in sources]
        table.add_row([name, *('-' if np.isnan(v) else f'{v:.{digits}f}' for v in values)])
    return table.get_string()
