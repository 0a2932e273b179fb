"""A grid of pictures that follows images through a trained model."""

from typing import Dict, List, NamedTuple, Sequence

import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from torch import Tensor

from mmseg.structures import SegDataSample

from ..localization.present import present_classes
from ..models.segmentors.more import MoRe
from ..models.segmentors.original_shape import to_original
from ..models.structures import LocalizationRequest
from .drawing import TITLES, color_labels, draw_grid, heat_overlay, label_legend, strongest

MAPS = ('attention', 'cam', 'lam')
COLUMNS = (
    'image',
    *(TITLES[name] for name in MAPS),
    'training label',
    'prediction',
    'truth',
)


class Stages(NamedTuple):
    """What the model makes of one image, at the image's original size."""

    image: np.ndarray
    """RGB ``(H, W, 3)`` uint8."""
    maps: Dict[str, np.ndarray]
    """Strongest present class, ``(H, W)`` in [0, 1], by map name."""
    labels: Dict[str, np.ndarray]
    """Dense labels ``(H, W)`` by column title, 0 = background."""


@torch.no_grad()
def run_stages(model: MoRe, data: dict) -> Stages:
    """Run one image through every stage that has a picture.

    The maps are those of validation: CAM at the training scales, LAM and
    attention at scale 1. The training label is the refined label that the
    segmentation loss would train on.

    Args:
        model: In evaluation mode.
        data: An item of a validation data set: ``inputs`` and a data
            sample with ``gt_score`` and ``gt_sem_seg``.

    Raises:
        ValueError: If the item has no truth or image labels.
    """
    for name in ('gt_score', 'gt_sem_seg'):
        if name not in data['data_samples']:
            raise ValueError(
                f'the grid needs {name} on the data samples: use a '
                'validation data set with masks and image labels'
            )
    batch = model.data_preprocessor(pseudo_collate([data]), False)
    inputs, samples = batch['inputs'], batch['data_samples']
    sample = samples[0]
    pseudo_label = refined_label(model, inputs, sample)
    request = LocalizationRequest(
        maps=MAPS, cam_scales=model.localizer.scales, lam_scales=(1.0,)
    )
    sample = localization_of(model, inputs, samples, request)
    present = sample.gt_score.nonzero().flatten().tolist()
    labels = dict(
        zip(
            COLUMNS[-3:],
            (pseudo_label, sample.pred_sem_seg.data[0], sample.gt_sem_seg.data[0]),
        )
    )
    return Stages(
        image=_original_image(model, inputs, sample),
        maps={name: strongest(sample.get(name).data, present) for name in MAPS},
        labels={title: label.cpu().numpy() for title, label in labels.items()},
    )


def localization_of(
    model: MoRe, inputs: Tensor, samples: List[SegDataSample], request: LocalizationRequest
) -> SegDataSample:
    """What the model predicts for one image, with the maps of a request.

    Args:
        model: In evaluation mode; the request that it has stays.
        inputs: Normalised image ``(1, 3, H, W)``.
        samples: Its data sample alone, with meta information; gets the results.
        request: Maps, and their scales.
    """
    before = model.localization_request
    model.localization_request = request
    try:
        return model.predict(inputs, samples)[0]
    finally:
        model.localization_request = before


def refined_label(model: MoRe, inputs: Tensor, sample: SegDataSample) -> Tensor:
    """The label that the segmentation loss would train on.

    Args:
        model: In evaluation mode.
        inputs: Normalised image ``(1, 3, H, W)``.
        sample: With ``gt_score`` and meta information.

    Returns:
        Dense labels at the original size, int64 ``(H0, W0)``, 255 where none is sure.
    """
    present = present_classes(sample.gt_score[None].to(inputs.device))
    cams = model.localizer.training_cams(inputs, classes=present)
    labels = model.training_labeler.label(
        cams, present, inputs.shape[-2:], final_cam=True, images=model.denormalize(inputs)
    )
    assert labels.segmentation is not None, 'images were given'
    return to_original(labels.segmentation.float(), sample, 'nearest')[0].long()


def _original_image(model: MoRe, inputs: Tensor, sample: SegDataSample) -> np.ndarray:
    pixels = to_original(model.denormalize(inputs)[0], sample)
    pixels = pixels.round().clamp(0, 255).byte().permute(1, 2, 0)
    return np.ascontiguousarray(pixels.cpu().numpy())


def draw_model_grid(
    model: MoRe,
    dataset: BaseDataset,
    indices: Sequence[int],
    alpha: float = 0.5,
    tile: int = 160,
) -> np.ndarray:
    """Grid with a row per image and a column per stage.

    Columns: image, raw attention, CAM and LAM of the present classes, refined
    training label, prediction, truth.

    Args:
        model: In evaluation mode.
        dataset: Validation data set with ``metainfo``.
        indices: Its items to draw.
        alpha: Share of the heat maps. Defaults to .5.
        tile: Room for a picture in pixels. Defaults to 160.

    Returns:
        RGB ``(H, W, 3)`` uint8.
    """
    classes = dataset.metainfo['classes']
    palette = dataset.metainfo['palette']
    rows, shown = [], {0}
    for index in indices:
        stages = run_stages(model, dataset[index])
        rows.append(
            [
                stages.image,
                *(heat_overlay(stages.image, heat, alpha) for heat in stages.maps.values()),
                *(color_labels(label, palette) for label in stages.labels.values()),
            ]
        )
        for label in stages.labels.values():
            shown.update(np.unique(label).tolist())
    legend = label_legend(shown, classes, palette)
    return draw_grid(rows, COLUMNS, legend=legend, tile=tile)
