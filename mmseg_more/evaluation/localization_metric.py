"""One metric for segmentation, localization maps and image labels."""

from typing import Any, Dict, List, Optional, Sequence

import torch
from mmengine.logging import MMLogger, print_log
from torch import Tensor

from mmseg.registry import METRICS

from ..masks.calibration import as_calibration, scale_kind
from ..models.structures import MAP_NAMES, LocalizationRequest
from .counting import CountingMetric
from .functional import (
    SegmentationFigures,
    average_precision,
    confusion_matrix,
    image_f1,
    segmentation_figures,
)
from .report import class_ious, format_table, mean_figures, write_json
from .sample import EvaluatedSample, read_sample
from .thresholds import Bkg, MapThresholds

SEGMENTATION = 'seg'


@METRICS.register_module()
class LocalizationMetric(CountingMetric):
    """Score the maps that ride on the data samples, and what comes with them.

    For the segmentation (``pred_sem_seg``) and for each of the maps ``cam``,
    ``lam``, ``fused``, ``attention`` that is present: mIoU, precision, recall
    and confusion ratio FP/TP, each the mean over the labels that occur in the
    truth, background included (section 4 of the paper; see
    :class:`~mmseg_more.evaluation.functional.SegmentationFigures`). A map
    becomes a label by ``argmax + 1`` over the classes of the image label, 0
    where the maximum is ``<= bkg``. All thresholds of a sweep are scored at
    once. The image labels are scored by F1 (per image at a logit above 0, then
    the mean) and mAP (over classes that occur).

    The maps come from :class:`LocalizationHook`; without it (and with test-time
    augmentation, for which it asks for none) the segmentation and the image labels
    are scored alone. Maps of the classes of the image's labels are enough (its
    ``policy='image-labels'``): the figures are those of the maps of all.

    Keys, in percent (ratios and thresholds as they are): ``seg/mIoU``,
    ``seg/precision``, ``seg/recall``, ``seg/confusion_ratio``, the same for
    each map and ``lam/mIoU_best``, ``lam/best_threshold``; ``cls/F1`` and
    ``cls/mAP``.

    Only counts are kept, and in distributed runs every image counts once, see
    :class:`~mmseg_more.evaluation.counting.CountingMetric`.

    Args:
        bkg (float | dict | str): Background threshold, one for all maps or one for
            each by its name; a map that the dict leaves out takes .5. Or a file of
            thresholds that were chosen without masks (docs/quality.md), in which maps
            of scale 1 and of several scales have their own.
            Defaults to .5 (VOC; COCO .45).
        thresholds (Sequence[float], optional): The sweep for the best
            threshold, to which ``bkg`` is added. Defaults to .05, .1, ... .95.
        ignore_index (int): Label of pixels that do not count. Defaults to 255.
        out_json (str, optional): File to write the figures to after each
            evaluation, with the IoU of each class as ``lam/IoU/NAME``.
            Undefined figures (NaN) are ``null``. Defaults to None.
        collect_device (str): As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix (str, optional): As in :class:`BaseMetric`; leave it out to get
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
        out_json: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        # a file is read once
        self._bkg = as_calibration(bkg) if isinstance(bkg, str) else bkg
        self._sweep = thresholds
        self.localization_request = None
        self.ignore_index = ignore_index
        self.out_json = out_json

    @property
    def localization_request(self) -> Optional[LocalizationRequest]:
        """What :class:`LocalizationHook` asks for: it tells the scales of the maps. None:
        nothing, and the maps are taken to be of scale 1."""
        return self._request

    @localization_request.setter
    def localization_request(self, request: Optional[LocalizationRequest]) -> None:
        self._request = request
        scales = request or LocalizationRequest()
        cam, lam = scale_kind(scales.cam_scales), scale_kind(scales.lam_scales)
        kinds = dict(cam=cam, lam=lam, fused=max(cam, lam, key=('raw', 'ms').index))
        self.thresholds = MapThresholds(self._bkg, self._sweep, kinds)

    # ------------------------------------------------------------ per image
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch.

        Args:
            data_batch: Not used.
            data_samples (Sequence[dict]): Samples of the model as dicts, with
                ``gt_sem_seg``, ``gt_score``, ``pred_sem_seg``,
                ``pred_score`` and the requested maps.
        """
        num_classes = self._num_classes()
        for data_sample in data_samples:
            sample = read_sample(data_sample, num_classes, self.ignore_index)
            image = self._new_image(
                (
                    sample.pred_score.detach().float().cpu(),
                    sample.gt_score.detach().float().cpu(),
                )
            )
            self._add(image, self._count(sample))

    def _count(self, sample: EvaluatedSample) -> Dict[str, Tensor]:
        """Confusion matrix and histograms of one image, on the CPU."""
        counts = {
            SEGMENTATION: confusion_matrix(
                sample.pred,
                sample.truth.to(sample.pred.device),
                len(sample.gt_score) + 1,
                self.ignore_index,
            ).cpu()
        }
        for name, maps in sample.maps.items():
            counts[name] = self.thresholds.histogram(
                name,
                maps,
                sample.gt_score,
                sample.truth,
                self.ignore_index,
                sample.map_indices,
                self.dataset_meta['classes'][1:],
            )
        return counts

    # ------------------------------------------------------------ all images
    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        """Figures from the summed counts and the collected scores.

        Args:
            results (list[tuple]): ``(pred_score, gt_score)`` of each image,
                each ``(K,)``.
        """
        if not results:
            raise ValueError('no image was evaluated: the data set is empty')
        figures: Dict[str, SegmentationFigures] = {}
        metrics: Dict[str, float] = {}
        for name in (*MAP_NAMES, SEGMENTATION):
            if name not in self._counts:
                continue
            confusion = self._counts[name]
            if name != SEGMENTATION:
                swept = self.thresholds.figures(name, confusion)
                confusion = swept.confusion
                metrics[f'{name}/mIoU_best'] = 100 * swept.best_miou
                metrics[f'{name}/best_threshold'] = swept.best_threshold
            figures[name] = segmentation_figures(confusion)
            metrics.update(mean_figures(name, figures[name]))
        score, truth = (torch.stack(part) for part in zip(*results))
        metrics['cls/F1'] = 100 * image_f1(score, truth).mean().item()
        metrics['cls/mAP'] = 100 * average_precision(score, truth).nanmean().item()

        classes = self.dataset_meta['classes']
        logger = MMLogger.get_current_instance()
        print_log(
            f'IoU of each class over {len(results)} images, in percent:\n'
            + format_table(figures, metrics, self.thresholds.bkg, classes),
            logger,
        )
        print_log(
            f'image labels: F1 {metrics["cls/F1"]:.2f}, mAP {metrics["cls/mAP"]:.2f}',
            logger,
        )
        if self.out_json:
            written = dict(metrics)
            for name, value in figures.items():
                written.update(class_ious(name, value, classes))
            write_json(self.out_json, written)
        return metrics
