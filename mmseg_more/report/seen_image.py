"""What is known of one image: of itself, and of what a model or a folder adds."""

from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from mmseg.structures import SegDataSample

from ..files import read_rgb
from ..masks.images import MaskImage

TRAINING_LABEL = 'training label'
MASK = 'mask'
PREDICTION = 'prediction'
TRUTH = 'truth'
JUDGED = (MASK, PREDICTION)
"""Labels that are compared with the truth; the first that an image has, decides on its
place in the gallery."""


class SeenImage(NamedTuple):
    """An image at its original size ``(H, W)``; all tensors are on the CPU."""

    name: str
    """Path below the image folder, without suffix."""
    image: np.ndarray
    """RGB ``(H, W, 3)`` uint8."""
    gt_score: Optional[Tensor]
    """Multi-hot image labels ``(K,)``; None if there are none."""
    truth: Optional[Tensor]
    """True dense labels ``(H, W)``; None if there are none."""
    pred_score: Optional[Tensor] = None
    """Predicted probabilities of the classes ``(K,)``; None if nothing predicts them."""
    maps: Dict[str, Tensor] = {}
    """Localization maps ``(P, H, W)`` in [0, 1] by their names."""
    map_indices: Optional[Tensor] = None
    """Classes of the P maps, int64 ``(P,)``; None: there are no maps."""
    labels: Dict[str, Tensor] = {}
    """Dense labels ``(H, W)`` by title, in the order of the pictures, without the truth."""
    confidence: Optional[float] = None
    """Expected IoU of the judged labels, in [0, 1]; None if it is not known."""

    @property
    def judged(self) -> str:
        """Title of the labels that decide on the image's place."""
        return next(title for title in JUDGED if title in self.labels)


def seen_sample(image: MaskImage, sample: SegDataSample) -> SeenImage:
    """An image and what the data set knows of it.

    Args:
        image: Name and file.
        sample: Of the data set, with ``gt_score`` and ``gt_sem_seg`` where there are any.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file does not decode, or has another size than the truth.
    """
    truth = sample.gt_sem_seg.data[0].cpu() if 'gt_sem_seg' in sample else None
    gt_score = sample.get('gt_score', None)
    return SeenImage(
        name=image.name,
        image=read_rgb(image.path, None if truth is None else truth.shape),
        gt_score=None if gt_score is None else torch.as_tensor(gt_score).float().cpu(),
        truth=truth,
    )


def see_files(dataset: Any, images: Sequence[MaskImage]) -> Iterator[SeenImage]:
    """Images of a data set, without any model.

    Args:
        dataset: Whose items hold ``data_samples``.
        images: Those to be seen.
    """
    for image in images:
        yield seen_sample(image, dataset[image.position]['data_samples'])
