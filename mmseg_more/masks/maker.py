"""From the network's output of one image after the other to files."""

import io
import logging
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from mmseg.structures import SegDataSample

from ..files import palette_png, read_rgb
from .folder import MaskFolder
from .loop import MaskImage
from .pool import CRFJob, CRFResult, DenseCRFPool
from .probabilities import ClassProbabilities
from .recipe import MaskRecipe

SOFT_STRIDE = 4
"""Soft maps have one value for so many pixels in each direction."""


class _Pending(NamedTuple):
    """What comes back with a mask of the CRF."""

    image: MaskImage
    allowed: Optional[List[int]]
    """Indices of the classes that may appear; None for all."""
    labels: np.ndarray
    """Dense label of each channel, ``(C,)``."""


class MaskRun:
    """Turn outputs of the network into masks, and keep count.

    Memory does not grow with the number of images: those that wait for the CRF are
    bounded by its pool, and a mask that is written is forgotten.

    Args:
        folder: Where to; its journal is open.
        recipe: How.
        class_names: All ``K + 1``, background first.
        palette: Their colours.
        soft_maps: Whether to write soft maps.
        num_workers: Processes for the CRF; None for one per core.
        backend_args: Where image files are read from (for the CRF).
    """

    def __init__(
        self,
        folder: MaskFolder,
        recipe: MaskRecipe,
        class_names: Sequence[str],
        palette: Sequence[Sequence[int]],
        soft_maps: bool = False,
        num_workers: Optional[int] = None,
        backend_args: Optional[dict] = None,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.class_names = list(class_names)
        self.palette = palette
        self.soft_maps = soft_maps
        self.backend_args = backend_args
        self.num_written = 0
        self._pool = recipe.crf and DenseCRFPool(
            num_workers, options=recipe.crf, epsilon=recipe.epsilon
        )

    def add(self, image: MaskImage, sample: SegDataSample) -> None:
        """Make the mask of an image, now or when the CRF is through with it.

        Raises:
            OSError: If a file cannot be written.
        """
        values = self.recipe.values(sample)
        allowed = self._allowed(image, sample)
        probabilities = self.recipe.probabilities(values, allowed)
        labels = probabilities.labels.cpu().numpy()
        if self.soft_maps:
            self.folder.write(self.folder.soft_path(image.name), soft_map(probabilities))
        pending = _Pending(image, allowed, labels)
        if not self._pool:
            mask = self.recipe.mask(values, probabilities)
            confidence = won_probability(mask, probabilities)
            self._write(pending, mask.cpu().numpy(), confidence.cpu().numpy())
            return
        try:
            pixels = read_rgb(image.path, values.shape[-2:], self.backend_args)
        except (OSError, ValueError) as error:
            self.fail(image, str(error))
            return
        self._collect(
            self._pool.submit(
                CRFJob(
                    image.path, pixels, probabilities.probs.cpu().numpy(), labels, pending
                )
            )
        )

    def fail(self, image: MaskImage, message: str) -> None:
        """Note that an image has no mask, and why; the run goes on."""
        print_log(
            f'no mask of {image.path}: {message}', logger='current', level=logging.WARNING
        )
        self.folder.record(image.name, dict(error=message))

    def drain(self) -> None:
        """Write what is still on its way."""
        if self._pool:
            self._collect(self._pool.drain())

    def close(self) -> None:
        """End the CRF's processes; what they work on is lost."""
        if self._pool:
            self._pool.close()

    def _allowed(self, image: MaskImage, sample: SegDataSample) -> Optional[List[int]]:
        if self.recipe.classes == 'all':
            return None
        if self.recipe.classes == 'image-labels':
            return list(image.labels)
        return sample.get('pred_label').tolist()

    def _collect(self, results: List[CRFResult]) -> None:
        for result in results:
            if result.error is not None:
                self.fail(result.payload.image, result.error)
            else:
                self._write(result.payload, result.mask, result.confidence)

    def _write(self, pending: _Pending, mask: np.ndarray, confidence: np.ndarray) -> None:
        name = pending.image.name
        self.folder.write(self.folder.mask_path(name), palette_png(mask, self.palette))
        shown = {
            self.class_names[label]: round(float(value), 4)
            for label, value in zip(pending.labels, confidence)
            if not np.isnan(value)
        }
        classes = (
            shown.keys() - {self.class_names[0]}
            if (pending.allowed is None)
            else {self.class_names[index + 1] for index in pending.allowed}
        )
        self.folder.record(
            name,
            dict(
                size=list(mask.shape),
                classes=[cls for cls in self.class_names if cls in classes],
                confidence=shown,
            ),
        )
        self.num_written += 1


def won_probability(mask: Tensor, probabilities: ClassProbabilities) -> Tensor:
    """Mean probability of each channel over the pixels of its label.

    Args:
        mask: Dense labels ``(H, W)``.
        probabilities: ``C`` channels.

    Returns:
        ``(C,)``; NaN for a label that the mask does not show.
    """
    won = mask == probabilities.labels[:, None, None]
    return (probabilities.probs * won).sum((1, 2)) / won.sum((1, 2))


def soft_map(probabilities: ClassProbabilities) -> bytes:
    """A small file of class probabilities, before any CRF.

    Keys of the ``.npz``: ``probs`` uint8 ``(C, h, w)``, probability times 255, the
    mean over ``SOFT_STRIDE`` x ``SOFT_STRIDE`` pixels, ``h = max(1, H // 4)``;
    ``labels`` uint8 ``(C,)``, the dense label of each channel (0 is the
    background, first); ``size`` int32, ``(H, W)``.
    """
    size = tuple(probabilities.probs.shape[-2:])
    small = F.adaptive_avg_pool2d(
        probabilities.probs, tuple(max(1, side // SOFT_STRIDE) for side in size)
    )
    arrays: Dict[str, np.ndarray] = dict(
        probs=(small * 255).round().byte().cpu().numpy(),
        labels=probabilities.labels.byte().cpu().numpy(),
        size=np.array(size, np.int32),
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
