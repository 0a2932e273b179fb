"""One metric for segmentation, localization maps and image labels."""
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import torch
from mmengine.dist import all_gather_object, get_dist_info
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from mmseg.registry import METRICS
from torch import Tensor

from ..models.structures import MAP_NAMES
from .functional import (SegmentationFigures, average_precision,
                         confusion_at_thresholds, confusion_matrix,
                         default_thresholds, image_f1, mean_iou,
                         segmentation_figures, threshold_histogram)
from .report import format_table, write_json
from .sample import EvaluatedSample, read_sample

SEGMENTATION = 'seg'


@METRICS.register_module()
class LocalizationMetric(BaseMetric):
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

    The maps come from :class:`LocalizationHook`; without it the segmentation
    and the image labels are scored alone.

    Keys, in percent (ratios and thresholds as they are): ``seg/mIoU``,
    ``seg/precision``, ``seg/recall``, ``seg/confusion_ratio``, the same for
    each map and ``lam/mIoU_best``, ``lam/best_threshold``; ``cls/F1`` and
    ``cls/mAP``.

    Only counts are kept, so memory does not grow with the images' size. In
    distributed runs every image counts once: the duplicates by which
    MMEngine's ``DefaultSampler`` pads the last batch are left out.

    Args:
        bkg (float | dict): Background threshold, one for all maps or one for
            each by its name; a map that the dict leaves out takes .5.
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
        >>> custom_hooks = [dict(type='LocalizationHook')]
    """

    def __init__(self,
                 bkg: Union[float, Mapping[str, float]] = .5,
                 thresholds: Optional[Sequence[float]] = None,
                 ignore_index: int = 255,
                 out_json: Optional[str] = None,
                 collect_device: str = 'cpu',
                 prefix: Optional[str] = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not isinstance(bkg, Mapping):
            bkg = {name: bkg for name in MAP_NAMES}
        unknown = set(bkg) - set(MAP_NAMES)
        if unknown:
            raise ValueError(f'bkg names unknown maps {sorted(unknown)}; '
                             f'known are {list(MAP_NAMES)}')
        self.bkg = {name: float(bkg.get(name, .5)) for name in MAP_NAMES}
        sweep = default_thresholds() if thresholds is None else thresholds
        for value in (*self.bkg.values(), *sweep):
            if not 0 <= value < 1:
                raise ValueError(
                    f'thresholds must lie in [0, 1), got {value}')
        self.thresholds = {
            name: sorted({float(t)
                          for t in (*sweep, bkg)})
            for name, bkg in self.bkg.items()
        }
        self.ignore_index = ignore_index
        self.out_json = out_json
        self._reset()

    def _reset(self) -> None:
        self._counts: Dict[str, Tensor] = {}
        self._pending: Dict[str, Tensor] = {}
        self._num_images = 0

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
        for sample in data_samples:
            sample = read_sample(sample, num_classes, self.ignore_index)
            # held back until it is known not to be padding, see `evaluate`
            self._flush()
            self._pending = self._count(sample)
            self._num_images += 1
            self.results.append((sample.pred_score.detach().float().cpu(),
                                 sample.gt_score.detach().float().cpu()))

    def _num_classes(self) -> int:
        names = (self.dataset_meta or {}).get('classes')
        if not names or names[0] != 'background':
            raise ValueError(
                'LocalizationMetric needs dataset_meta["classes"] with '
                f'"background" first and then the K classes, got {names}')
        return len(names) - 1

    def _count(self, sample: EvaluatedSample) -> Dict[str, Tensor]:
        """Confusion matrix and histograms of one image, on the CPU."""
        num_classes = len(sample.gt_score)
        counts = {
            SEGMENTATION:
            confusion_matrix(sample.pred, sample.truth.to(sample.pred.device),
                             num_classes + 1, self.ignore_index).cpu()
        }
        for name, maps in sample.maps.items():
            present = sample.gt_score.to(maps)[:, None, None]
            value, label = (maps * present).max(0)
            counts[name] = threshold_histogram(
                label, value, sample.truth.to(maps.device),
                torch.tensor(self.thresholds[name], dtype=torch.float64),
                num_classes, self.ignore_index).cpu()
        return counts

    def _flush(self) -> None:
        for name, count in self._pending.items():
            if name in self._counts:
                self._counts[name] += count
            else:
                self._counts[name] = count
        self._pending = {}

    # ------------------------------------------------------------ all images
    def evaluate(self, size: int) -> dict:
        """Sum over the ranks and compute the figures.

        Image ``j`` of rank ``r`` of ``R`` is image ``j R + r`` of the data
        set, by which :meth:`BaseMetric.evaluate` drops padding from
        ``self.results``. The counts follow the same rule: a sampler pads at
        most the last image of each rank.

        Args:
            size (int): Number of images of the data set.
        """
        rank, world_size = get_dist_info()
        padded = world_size > 1 and (
            (self._num_images - 1) * world_size + rank >= size)
        if not padded:
            self._flush()
        totals: Dict[str, Tensor] = {}
        for counts in all_gather_object(self._counts):
            for name, count in counts.items():
                totals[name] = totals.get(name, 0) + count
        self._reset()
        self._counts = totals
        try:
            return super().evaluate(size)
        finally:
            self._reset()

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
            confusion, extra = self._at_threshold(name)
            figures[name] = segmentation_figures(confusion)
            metrics.update(_summary(name, figures[name]), **extra)
        score, truth = (torch.stack(part) for part in zip(*results))
        metrics['cls/F1'] = 100 * image_f1(score, truth).mean().item()
        metrics['cls/mAP'] = 100 * average_precision(score,
                                                     truth).nanmean().item()

        classes = self.dataset_meta['classes']
        logger = MMLogger.get_current_instance()
        print_log(
            f'IoU of each class over {len(results)} images, in percent:\n' +
            format_table(figures, metrics, self.bkg, classes), logger)
        print_log(
            f'image labels: F1 {metrics["cls/F1"]:.2f}, '
            f'mAP {metrics["cls/mAP"]:.2f}', logger)
        if self.out_json:
            per_class = {
                f'{name}/IoU/{cls}': 100 * iou
                for name, value in figures.items()
                for cls, iou in zip(classes, value.iou.tolist())
            }
            write_json(self.out_json, {**metrics, **per_class})
        return metrics

    def _at_threshold(self, name: str) -> tuple:
        """Confusion matrix at the fixed threshold; figures of the sweep."""
        if name == SEGMENTATION:
            return self._counts[name], {}
        thresholds = self.thresholds[name]
        matrices = confusion_at_thresholds(self._counts[name])
        score = torch.tensor([mean_iou(matrix) for matrix in matrices],
                             dtype=torch.float64)
        # NaN (nothing to score) is nowhere better than the first threshold
        best = int(score.nan_to_num(-1).argmax())
        return matrices[thresholds.index(self.bkg[name])], {
            f'{name}/mIoU_best': 100 * score[best].item(),
            f'{name}/best_threshold': thresholds[best],
        }


def _summary(name: str, figures: SegmentationFigures) -> Dict[str, float]:
    return {
        f'{name}/mIoU': 100 * figures.mean('iou'),
        f'{name}/precision': 100 * figures.mean('precision'),
        f'{name}/recall': 100 * figures.mean('recall'),
        f'{name}/confusion_ratio': figures.mean('confusion_ratio'),
    }

