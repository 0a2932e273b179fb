"""What a model makes of images, one after the other."""

from typing import Any, Iterator, Sequence

import torch
from mmengine.dataset import pseudo_collate

from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample

from ..masks.confidence import confidence_of
from ..masks.images import MaskImage
from ..masks.probabilities import seg_probabilities
from ..models.segmentors.more import MoRe
from ..models.structures import LocalizationRequest
from ..visualization.model_grid import localization_of, refined_label
from .seen_image import PREDICTION, TRAINING_LABEL, SeenImage, seen_sample


def see_by_model(
    model: BaseSegmentor,
    dataset: Any,
    images: Sequence[MaskImage],
    request: LocalizationRequest,
) -> Iterator[SeenImage]:
    """Images with what a segmentor makes of them.

    A MoRe adds the maps of the classes of the image labels (of the predicted classes, where
    the data have no labels), the refined label that its segmentation loss would train on,
    and the scores of the classes. Any segmentor gives the prediction and its confidence.

    Args:
        model: In evaluation mode.
        dataset: Whose items hold ``inputs`` and ``data_samples``.
        images: Those to be seen.
        request: Maps of a MoRe, and their scales; its policy is not looked at.
    """
    for image in images:
        item = dataset[image.position]
        seen = seen_sample(image, item['data_samples'])
        with torch.no_grad():
            batch = model.data_preprocessor(pseudo_collate([item]), False)
            if isinstance(model, MoRe):
                yield _with_localization(model, batch, seen, request)
            else:
                sample = model.predict(batch['inputs'], batch['data_samples'])[0]
                yield _with_prediction(seen, sample)


def _with_localization(
    model: MoRe, batch: dict, seen: SeenImage, request: LocalizationRequest
) -> SeenImage:
    inputs, samples = batch['inputs'], batch['data_samples']
    if seen.gt_score is not None:
        label = refined_label(model, inputs, samples[0])
        seen = seen._replace(labels={TRAINING_LABEL: label.cpu()})
    policy = 'predicted' if seen.gt_score is None else 'image-labels'
    sample = localization_of(model, inputs, samples, request._replace(policy=policy))
    return _with_prediction(seen, sample)._replace(
        pred_score=sample.pred_score.float().cpu(),
        maps={name: sample.get(name).data.float().cpu() for name in request.maps},
        map_indices=sample.map_indices.cpu(),
    )


def _with_prediction(seen: SeenImage, sample: SegDataSample) -> SeenImage:
    prediction = sample.pred_sem_seg.data[0]
    probabilities = seg_probabilities(sample.seg_logits.data)
    return seen._replace(
        labels={**seen.labels, PREDICTION: prediction.cpu()},
        confidence=confidence_of(prediction, probabilities).image,
    )
