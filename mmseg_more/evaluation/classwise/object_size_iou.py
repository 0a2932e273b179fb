"""IoU of single objects, by their size."""

from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import torch
from torch import Tensor

from mmseg.registry import METRICS

from ..sample import read_truth
from .classwise_metric import ClassFigure, ClasswiseMetric
from .label_sources import LabelSources

SIZES: Tuple[str, ...] = ('small', 'medium', 'large')
UNITS: Tuple[str, ...] = ('share', 'pixels')


class ObjectIoUs(NamedTuple):
    """The objects of one class in one image."""

    iou: np.ndarray
    """Instance-aware IoU of each object, ``(N,)`` in [0, 1]."""
    area: np.ndarray
    """Its pixels in the truth, ``(N,)`` int64."""
    unassigned: int
    """Predicted pixels that no object answers for."""
    predicted: int
    """All predicted pixels that count."""


def object_ious(pred: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> ObjectIoUs:
    """Instance-aware IoU of the objects of one class.

    An object is a connected component ``T_i`` of the truth, in eight directions. A
    component of the prediction belongs to all objects that it overlaps; its false pixels
    are shared among them in proportion to their areas. With these shares ``F_i`` of all
    components, ``IoU_i = |T_i & P| / (|T_i| + F_i)``. Components that overlap no object are
    unassigned.

    Args:
        pred: Where the class is predicted, ``(H, W)`` bool.
        truth: Where it is, ``(H, W)`` bool.
        valid: Pixels that count, ``(H, W)`` bool. The others are counted nowhere, but they
            do connect: what is predicted across a ring to ignore stays one component.
    """
    num_objects, objects = _components(truth & valid)
    num_pieces, pieces = _components(pred)
    index = pieces[valid].astype(np.int64) * num_objects + objects[valid]
    # pixels by component of the prediction and of the truth, the first of each is "none"
    pixels = np.bincount(index, minlength=num_pieces * num_objects)
    pixels = pixels.reshape(num_pieces, num_objects)
    area = pixels[:, 1:].sum(0)
    overlap, false = pixels[1:, 1:], pixels[1:, 0]
    share = area * (overlap > 0)  # (pieces, objects)
    total = share.sum(1)
    assigned = total > 0
    share = share[assigned] / total[assigned, None]
    false_share = (share * false[assigned, None]).sum(0)
    return ObjectIoUs(
        iou=overlap.sum(0) / (area + false_share),
        area=area,
        unassigned=int(false[~assigned].sum()),
        predicted=int(pixels[1:].sum()),
    )


def _components(mask: np.ndarray) -> Tuple[int, np.ndarray]:
    """Number of components, "none" included, and the component of each pixel, 0 = none."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)


@METRICS.register_module()
class ObjectSizeIoUMetric(ClasswiseMetric):
    """Instance-aware IoU (IA-mIoU), of all objects and of small, medium and large ones.

    Mun et al., "Small Objects Matter in Weakly-supervised Semantic Segmentation", 2023:
    mIoU is ruled by the large objects, so each object has an IoU of its own here. A
    semantic segmentation does not tell objects apart: the false pixels of each of its
    components are shared among the objects that it overlaps, see :func:`object_ious`. The
    figure of a class is the mean over its objects in all images, that of the data set the
    mean over the classes that have any.

    Differs from the paper: the objects are the connected components of a class in the
    truth, as masks of instances are not asked for. And a component of the prediction that
    overlaps no object of its class lowers no object's IoU; the share of such pixels among
    all that are predicted is a figure by itself, ``unassigned``.

    It reads ``gt_sem_seg`` and ``pred_sem_seg``, of any segmentor and data set; for maps
    also the map and ``gt_score``. A first class "background" is no object.

    Keys, in percent: ``seg/IA-mIoU``, ``seg/IA-mIoU_small``, ``seg/IA-mIoU_medium``,
    ``seg/IA-mIoU_large`` (NaN where no object has the size), ``seg/unassigned``, and so for
    each other source.

    Args:
        sources: As in :class:`BoundaryIoUMetric`. Defaults to ('seg', ).
        bkg: As in :class:`BoundaryIoUMetric`. Defaults to .5.
        limits: Areas from which an object is medium, and from which it is
            large. Defaults to (1 / 300, .03): COCO's 32 x 32 and 96 x 96 pixels, in images
            of 640 x 480 pixels.
        unit: Of the limits: 'share' of the image's pixels, or 'pixels'; COCO's own
            are ``limits=(1024, 9216), unit='pixels'``. Defaults to 'share'.
        ignore_index: As in :class:`ClasswiseMetric`. Defaults to 255.
        out_json: As in :class:`ClasswiseMetric`. Defaults to None.
        collect_device: As in :class:`BaseMetric`. Defaults to 'cpu'.
        prefix: As in :class:`BaseMetric`. Defaults to None.
    """

    title = 'Instance-aware IoU of each class'

    def __init__(
        self,
        sources: Sequence[str] = ('seg',),
        bkg: Union[float, Mapping[str, float]] = 0.5,
        limits: Sequence[float] = (1 / 300, 0.03),
        unit: str = 'share',
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(ignore_index, out_json, collect_device, prefix)
        if unit not in UNITS:
            raise ValueError(f'unit must be one of {", ".join(UNITS)}, got {unit!r}')
        limits = tuple(limits)
        if len(limits) != 2 or not 0 < limits[0] < limits[1]:
            raise ValueError(f'limits must be two ascending areas above 0, got {limits}')
        if unit == 'share' and limits[1] >= 1:
            raise ValueError(
                f'limits are shares of the image, below 1, got {limits}; for pixels say '
                'unit="pixels"'
            )
        self.sources = LabelSources(sources, bkg)
        self.limits = limits
        self.unit = unit

    def _count(self, sample: dict) -> Dict[str, Tensor]:
        num_labels = len(self._class_names())
        truth = read_truth(sample, num_labels, self.ignore_index)
        size = tuple(truth.shape)
        true_labels = truth.cpu().numpy()
        counts = {}
        for name, labels in self.sources.read(sample, num_labels, size).items():
            counts.update(self._count_labels(name, labels.numpy(), true_labels))
        return counts

    def _count_labels(
        self, name: str, pred: np.ndarray, truth: np.ndarray
    ) -> Dict[str, Tensor]:
        names = self._class_names()
        sums = np.zeros((len(names), len(SIZES)))
        objects = np.zeros((len(names), len(SIZES)), np.int64)
        pixels = np.zeros((len(names), 2), np.int64)
        valid = truth != self.ignore_index
        scale = truth.size if self.unit == 'share' else 1
        for label in np.union1d(truth[valid], pred[valid]).tolist():
            if label == 0 and names[0] == 'background':
                continue
            found = object_ious(pred == label, truth == label, valid)
            size = np.digitize(found.area / scale, self.limits)
            sums[label] = np.bincount(size, found.iou, minlength=len(SIZES))
            objects[label] = np.bincount(size, minlength=len(SIZES))
            pixels[label] = found.unassigned, found.predicted
        return {
            f'{name}/iou': torch.from_numpy(sums),
            f'{name}/objects': torch.from_numpy(objects),
            f'{name}/pixels': torch.from_numpy(pixels),
        }

    def _figures(self) -> Dict[str, ClassFigure]:
        figures = {}
        for name in self.sources.names:
            sums, objects = self._counts[f'{name}/iou'], self._counts[f'{name}/objects']
            mean = {'IA-mIoU': 100 * sums.sum(1) / objects.sum(1)}
            for size, iou in zip(SIZES, (100 * sums / objects).unbind(1)):
                mean[f'IA-mIoU_{size}'] = iou
            for key, iou in mean.items():
                figures[f'{name}/{key}'] = ClassFigure(iou.nanmean().item(), iou)
            unassigned, predicted = self._counts[f'{name}/pixels'].sum(0).double()
            figures[f'{name}/unassigned'] = ClassFigure(
                (100 * unassigned / predicted).item()
            )
        return figures
