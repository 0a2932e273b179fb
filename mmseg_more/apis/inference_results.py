"""What comes out of an inferencer."""

import os.path as osp
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mmseg.structures import SegDataSample

from ..files import json_bytes, write_bytes
from ..models.structures import MAP_NAMES
from .inference_inputs import InferenceInput


class ImageResult(NamedTuple):
    """What became of one image."""

    input: InferenceInput
    """The image."""
    sample: Optional[SegDataSample]
    """``pred_sem_seg`` (the mask), ``pred_score``, ``pred_label`` and the requested maps,
    and ``seg_logits`` with ``keep_logits``, at the size of the image; None after an
    error."""
    error: Optional[str] = None
    """What went wrong, with the name of the image; None where nothing did."""
    pixels: Optional[np.ndarray] = None
    """The image as it was read, BGR ``(H, W, 3)``."""
    picture: Optional[np.ndarray] = None
    """RGB ``(H, W, 3)``, if one was asked for."""
    image_confidence: Optional[float] = None
    """The mean IoU that the mask is expected to have, in [0, 1]
    (:func:`~mmseg_more.masks.expected_iou`); calibrated where a ``calibration`` holds
    curves of such masks."""
    confidence_map: Optional[np.ndarray] = None
    """Of each pixel, float32 ``(H, W)`` in [0, 1], if it was asked for."""
    worked_size: Optional[Tuple[int, int]] = None
    """``(h, w)`` that an image above ``max_pixels`` was worked on at: the size of its maps
    and logits. None: all is of the image's own size."""

    def scores(self, classes: Sequence[str]) -> Dict[str, float]:
        """Score in [0, 1] of each class by its name; ``classes`` has background first."""
        return {
            name: round(float(score), 4)
            for name, score in zip(classes[1:], self._sample().pred_score)
        }

    def predicted(self, classes: Sequence[str]) -> List[str]:
        """Names of the predicted classes."""
        return [classes[1 + int(index)] for index in self._sample().pred_label]

    def mask(self) -> np.ndarray:
        """Dense labels ``(H, W)`` uint8, 0 = background."""
        return self._sample().pred_sem_seg.data[0].numpy().astype(np.uint8)

    def maps(self) -> Dict[str, np.ndarray]:
        """The requested maps by name, float32 ``(K, H, W)`` in [0, 1]."""
        sample = self._sample()
        return {name: sample.get(name).data.numpy() for name in MAP_NAMES if name in sample}

    def _sample(self) -> SegDataSample:
        if self.sample is None:
            raise ValueError(f'there is no result: {self.error}')
        return self.sample


def summary(result: ImageResult, classes: Sequence[str]) -> Dict[str, Any]:
    """What ``scores.json`` says of one image."""
    path: Dict[str, Any] = dict(path=result.input.path)
    if result.error is not None:
        return dict(path, error=result.error)
    confidence = result.image_confidence
    if result.worked_size is not None:
        path['worked_size'] = list(result.worked_size)
    return dict(
        path,
        classes=result.predicted(classes),
        scores=result.scores(classes),
        image_confidence=None if confidence is None else round(confidence, 4),
    )


def write_scores(folder: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``scores.json``, by the names of the images' files."""
    content = json_bytes(entries, indent=1) + b'\n'
    write_bytes(osp.join(folder, 'scores.json'), content)


RESULT_KEYS = (
    'predictions',
    'visualization',
    'scores',
    'classes',
    'maps',
    'image_confidence',
    'confidence_map',
    'errors',
)
"""Keys of what a call of the inferencer returns."""


def unpack(result: ImageResult, classes: Sequence[str]) -> Dict[str, Any]:
    """One image's part of what a call of the inferencer returns; light."""
    if result.error is not None:
        return {**dict.fromkeys(RESULT_KEYS), 'errors': result.error}
    return dict(
        predictions=result.mask(),
        visualization=result.picture,
        scores=result.scores(classes),
        classes=result.predicted(classes),
        maps=result.maps(),
        image_confidence=result.image_confidence,
        confidence_map=result.confidence_map,
        errors=None,
    )
