"""One metric for segmentation, localization maps and image labels."""

import logging
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import cv2
import numpy as np
import torch
from mmengine.logging import MMLogger, print_log
from torch import Tensor

from mmseg.registry import METRICS

from ..files import leads_below, write_bytes
from ..masks.calibration import as_calibration, scale_kind
from ..models.structures import MAP_NAMES, LocalizationRequest
from .counting import CountingMetric
from .functional import (
    ABSENT_CLASSES,
    SegmentationFigures,
    average_precision,
    confusion_matrix,
    image_f1,
    segmentation_figures,
)
from .report import class_ious, format_table, mean_figures, write_json
from .sample import read_field, read_maps, read_prediction, read_scores, read_truth, remedy
from .thresholds import Bkg, MapThresholds

SEGMENTATION = 'seg'
SCORES = ('pred_score', 'gt_score')


class ImageScores(NamedTuple):
    """Scores of the K classes of an image, each ``(K,)`` or None, where it has none."""

    pred_score: Optional[Tensor]
    """Probabilities."""
    gt_score: Optional[Tensor]
    """Multi-hot image labels."""


@METRICS.register_module()
class LocalizationMetric(CountingMetric):
    """Score the maps that ride on the data samples, and what comes with them.

    For the segmentation (``pred_sem_seg``) and for each of the maps ``cam``,
    ``lam``, ``fused``, ``attention`` that is present: mIoU, precision, recall
    and confusion ratio FP/TP, each the mean over the labels that occur in the
    truth (``absent_classes``), background included (section 4 of the paper; see
    :class:`~mmseg_more.evaluation.functional.SegmentationFigures`). A map
    becomes a label by ``argmax + 1`` over the classes of the image label, 0
    where the maximum is ``<= bkg``. All thresholds of a sweep are scored at
    once. The image labels are scored by F1 (per image at a logit above 0, then
    the mean) and mAP (over classes that occur).

    The maps come from :class:`LocalizationHook`; without it (and with test-time
    augmentation, for which it asks for none) the segmentation and the image labels
    are scored alone. Maps of the classes of the image's labels are enough (its
    ``policy='image-labels'``): the figures are those of the maps of all.

    Any segmentor can be scored. Where the data samples have no image labels
    (``gt_score``) the figures of maps and image labels are left out, where the model
    predicts none (``pred_score``) those of image labels; the log says so. What the first
    image of an evaluation has, all must have.

    Keys, in percent (ratios and thresholds as they are): ``seg/mIoU``,
    ``seg/precision``, ``seg/recall``, ``seg/confusion_ratio``, the same for
    each map and ``lam/mIoU_best``, ``lam/best_threshold``; ``cls/F1`` and
    ``cls/mAP``.

    Only counts are kept, and in distributed runs every image counts once, see
    :class:`~mmseg_more.evaluation.counting.CountingMetric`.

    Args:
        bkg: Background threshold, one for all maps or one for
            each by its name; a map that the dict leaves out takes .5. Or a file of
            thresholds that were chosen without masks (docs/quality.md), in which maps
            of scale 1 and of several scales have their own.
            Defaults to .5 (VOC; COCO .45).
        thresholds: The sweep for the best
            threshold, to which ``bkg`` is added. Defaults to .05, .1, ... .95.
        ignore_index: Label of pixels that do not count. Defaults to 255.
        absent_classes: Whether a label that is predicted and occurs in no truth is
            left out of the means ('skip') or counts with an IoU of 0 ('zero'), as in
            ``IoUMetric``. Defaults to 'skip'.
        output_dir: Folder to write each predicted segmentation to, as
            ``NAME.png`` with the labels as pixels, like ``IoUMetric``, but in the
            subfolder that the image is in (by its ``img_id``). Defaults to None.
        format_only: Only write to ``output_dir``, without any figure: no truth is
            needed. Defaults to False.
        keep_results: What MMSegmentation's ``test.py --out`` sets. What is written
            to ``output_dir`` stays there in any case. Defaults to False.
        out_json: File to write the figures to after each
            evaluation, with the IoU of each class as ``lam/IoU/NAME``.
            Undefined figures (NaN) are ``null``. Defaults to None.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`; leave it out to get
            the keys above. Defaults to None.

    Example:
        >>> val_evaluator = dict(type='LocalizationMetric', bkg=.5)
        >>> default_hooks = dict(localization=dict(type='LocalizationHook'))
    """

    _request: Optional[LocalizationRequest] = None

    def __init__(
        self,
        bkg: Bkg = 0.5,
        thresholds: Optional[Sequence[float]] = None,
        ignore_index: int = 255,
        absent_classes: str = 'skip',
        output_dir: Optional[str] = None,
        format_only: bool = False,
        keep_results: bool = False,
        out_json: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if absent_classes not in ABSENT_CLASSES:
            raise ValueError(
                f'absent_classes must be one of {ABSENT_CLASSES}, got {absent_classes!r}'
            )
        if format_only and output_dir is None:
            raise ValueError('format_only=True writes predictions: it needs `output_dir`')
        # a file is read once
        self._bkg = as_calibration(bkg) if isinstance(bkg, str) else bkg
        self._sweep = thresholds
        self.localization_request = None
        self.ignore_index = ignore_index
        self.absent_classes = absent_classes
        self.output_dir = output_dir
        self.format_only = format_only
        self.out_json = out_json

    @property
    def localization_request(self) -> Optional[LocalizationRequest]:
        """What :class:`LocalizationHook` asks for: it tells the scales of the maps.

        None: nothing, and the maps are taken to be of scale 1.
        """
        return self._request

    @localization_request.setter
    def localization_request(self, request: Optional[LocalizationRequest]) -> None:
        self._request = request
        scales = request or LocalizationRequest()
        cam, lam = scale_kind(scales.cam_scales), scale_kind(scales.lam_scales)
        kinds = dict(cam=cam, lam=lam, fused=max(cam, lam, key=('raw', 'ms').index))
        self.thresholds = MapThresholds(self._bkg, self._sweep, kinds)

    def _reset(self) -> None:
        super()._reset()
        self._scores: Optional[List[str]] = None  # fields that the images have

    # ------------------------------------------------------------ per image
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch, and write its predictions.

        Args:
            data_batch: Not used.
            data_samples: Samples of the model as dicts, with
                ``gt_sem_seg`` and ``pred_sem_seg``, and with ``gt_score``,
                ``pred_score`` and the requested maps where there are any.

        Raises:
            KeyError: A field is missing that the first image has.
            ValueError: Sizes or labels do not fit each other or the data set.
        """
        for sample in data_samples:
            if self.output_dir is not None:
                self._write_prediction(sample, Path(self.output_dir))
            if self.format_only:
                self._new_image(ImageScores(None, None))
            else:
                self._process_image(sample)

    def _write_prediction(self, sample: dict, folder: Path) -> None:
        labels = read_field(sample, 'pred_sem_seg')['data'].squeeze(0).cpu().numpy()
        # as in IoUMetric: the labels of the file, whose 0 the data set left out
        labels = labels + bool(sample.get('reduce_zero_label', False))
        _, content = cv2.imencode('.png', labels.astype(np.uint8))
        write_bytes(folder / _prediction_name(sample), content.tobytes())

    def _process_image(self, sample: dict) -> None:
        if self._scores is None:
            self._scores = [name for name in SCORES if name in sample]
        num_labels = len((self.dataset_meta or {}).get('classes') or ())
        if self._scores or not num_labels:
            num_labels = self._num_classes() + 1
        truth = read_truth(sample, num_labels, self.ignore_index)
        pred = read_prediction(sample, num_labels, truth.shape)
        scores = {name: read_scores(sample, name, num_labels - 1) for name in self._scores}
        counts = {
            SEGMENTATION: confusion_matrix(
                pred, truth.to(pred.device), num_labels, self.ignore_index
            ).cpu()
        }
        if 'gt_score' in scores:
            counts.update(self._count_maps(sample, truth, scores['gt_score']))
        on_cpu = {name: score.detach().float().cpu() for name, score in scores.items()}
        image = self._new_image(ImageScores(*(on_cpu.get(name) for name in SCORES)))
        self._add(image, counts)

    def _count_maps(
        self, sample: dict, truth: Tensor, gt_score: Tensor
    ) -> Dict[str, Tensor]:
        """Histogram of each map of an image, on the CPU."""
        maps, indices = read_maps(sample, len(gt_score), truth.shape)
        assert self.dataset_meta is not None, 'its classes have been counted'
        classes = self.dataset_meta['classes'][1:]
        return {
            name: self.thresholds.histogram(
                name, value, gt_score, truth, self.ignore_index, indices, classes
            )
            for name, value in maps.items()
        }

    # ------------------------------------------------------------ all images
    def compute_metrics(self, results: List[ImageScores]) -> Dict[str, float]:
        """Figures from the summed counts and the collected scores.

        Args:
            results: Of each image.
        """
        if not results:
            raise ValueError('no image was evaluated: the data set is empty')
        logger = MMLogger.get_current_instance()
        if self.format_only:
            print_log(f'{len(results)} predictions are in {self.output_dir}', logger)
            return {}
        figures: Dict[str, SegmentationFigures] = {}
        metrics: Dict[str, float] = {}
        for name in (*MAP_NAMES, SEGMENTATION):
            if name not in self._counts:
                continue
            confusion = self._counts[name]
            if name != SEGMENTATION:
                swept = self.thresholds.figures(name, confusion, self.absent_classes)
                confusion = swept.confusion
                metrics[f'{name}/mIoU_best'] = 100 * swept.best_miou
                metrics[f'{name}/best_threshold'] = swept.best_threshold
            figures[name] = segmentation_figures(confusion, self.absent_classes)
            metrics.update(mean_figures(name, figures[name]))

        classes = self.dataset_meta['classes']
        print_log(
            f'IoU of each class over {len(results)} images, in percent:\n'
            + format_table(figures, metrics, self.thresholds.bkg, classes),
            logger,
        )
        metrics.update(self._image_label_figures(results, logger))
        if self.out_json:
            written = dict(metrics)
            for name, value in figures.items():
                written.update(class_ious(name, value, classes))
            write_json(self.out_json, written)
        return metrics

    def _image_label_figures(
        self, results: List[ImageScores], logger: MMLogger
    ) -> Dict[str, float]:
        """F1 and mAP of the image labels; none where the images have no scores."""
        columns = dict(zip(SCORES, zip(*results)))
        missing = [name for name in SCORES if any(s is None for s in columns[name])]
        for name in missing:
            left_out = 'image labels' + ' and maps' * (name == 'gt_score')
            print_log(
                f'LocalizationMetric leaves out the figures of {left_out}: the data '
                f'samples have no "{name}"; {remedy(name)}.',
                logger,
                logging.WARNING,
            )
        if missing:
            return {}
        score, truth = (torch.stack(columns[name]) for name in SCORES)
        figures = {
            'cls/F1': 100 * image_f1(score, truth).mean().item(),
            'cls/mAP': 100 * average_precision(score, truth).nanmean().item(),
        }
        print_log(
            f'image labels: F1 {figures["cls/F1"]:.2f}, mAP {figures["cls/mAP"]:.2f}',
            logger,
        )
        return figures


def _prediction_name(sample: dict) -> str:
    """Path of the file of a prediction: the image's stem, below its subfolder if known."""
    name = f'{Path(read_field(sample, "img_path")).stem}.png'
    # the ID may be more or less than the stem (COCO's is its number)
    image_id = str(sample.get('img_id', ''))
    return str(Path(image_id).parent / name) if leads_below(image_id) else name
