"""The one way from what a network says about an image to its mask."""

import collections
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from .confidence import MaskConfidence, confidence_of
from .dense_crf import DenseCRFOptions
from .large_images import full_size_mask, shrink_image, shrink_probabilities, worked_size
from .pool import MAX_BYTES, CRFJob, CRFQueue, CRFResult, open_crf
from .probabilities import ClassProbabilities, probabilities_to_mask, won_probability
from .recipe import MaskRecipe

NOT_FINITE = (
    'the network gives NaN or infinity for it: with test_cfg.fp16=True or amp try float32'
)
"""Why an image has no mask."""


class MadeMask(NamedTuple):
    """What became of one image."""

    payload: Any
    """As it was given."""
    mask: Optional[np.ndarray]
    """Dense labels ``(H, W)`` uint8; None after an error."""
    labels: Optional[np.ndarray]
    """Labels that took part, int64 ``(C,)``; None after an error, or if not known."""
    confidence: Optional[np.ndarray]
    """Mean probability of the pixels that each of ``labels`` won, float32 ``(C,)`` in
    [0, 1]; NaN where it won none. None after an error."""
    error: Optional[str]
    """What went wrong; None where nothing did."""
    mask_confidence: Optional[MaskConfidence] = None
    """Of each pixel and of the mask, calibrated where the recipe has curves; None after
    an error, or if no probabilities are known."""
    worked_size: Optional[Tuple[int, int]] = None
    """``(h, w)`` that an image above ``max_pixels`` was worked on at. Mask and confidence
    of its pixels are at the full size, all other figures of confidence are of the lower
    one. None: of the full size."""


class _Place:
    """One place in the order of the images: its mask, once it is there."""

    made: Optional[MadeMask] = None

    labels: Optional[np.ndarray] = None
    read_image: Optional[Callable[[], np.ndarray]] = None  # if it is above the limit

    def __init__(self, payload: Any) -> None:
        self.payload = payload


class MaskMaker:
    """Masks of one image after the other, in the order of their coming.

    Without CRF a mask is there at once. With it masks are refined while the network sees
    the next images: by worker processes, or on the GPU that the probabilities are on. Of
    an image that waits the probabilities of the classes that may win are kept, its pixels
    and ``payload``; :meth:`add` blocks while these are more than ``max_bytes``. Use it as
    a context manager: leaving it drops what was not drained.

    Images above ``recipe.max_pixels`` are refined at a lower size, and their masks come
    back to the full one (:func:`~mmseg_more.masks.large_images.full_size_mask`).

    Args:
        recipe: How masks are made, a resolved one, see :meth:`MaskRecipe.calibrated`.
        num_workers: Processes for the CRF. None: one per usable core; 0: none, this
            process refines.
        max_bytes: Limit for the images that wait for the CRF; one always may.

    Example:
        >>> with MaskMaker(recipe) as maker:
        ...     for sample in samples:
        ...         probabilities = recipe.probabilities(sample, recipe.allowed(sample))
        ...         for made in maker.add(sample.img_path, probabilities, read_image):
        ...             ...
        ...     for made in maker.drain():
        ...         ...
    """

    def __init__(
        self,
        recipe: MaskRecipe,
        num_workers: Optional[int] = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.recipe = recipe
        self._curves = recipe.curves
        self._num_workers = num_workers
        self._max_bytes = max_bytes
        self._crf: Optional[CRFQueue] = None
        self._places: Deque[_Place] = collections.deque()
        self._told_of_limit = False

    # ----------------------------------------------------------------- hand in
    def add(
        self,
        name: str,
        probabilities: ClassProbabilities,
        read_image: Callable[[], np.ndarray],
        payload: Any = None,
        held_bytes: int = 0,
        size: Optional[Sequence[int]] = None,
    ) -> List[MadeMask]:
        """Hand in what the network says about an image.

        Args:
            name: What errors call the image.
            probabilities: At the original size of the image, or of the one that it was
                reduced to, as ``recipe.probabilities(sample, allowed)`` gives them.
            read_image: Gives the image for the CRF, RGB ``(H, W, 3)`` uint8; not called
                without CRF, twice for a large image. Its OSError or ValueError is the
                failure of this image.
            payload: Comes back with the mask.
            held_bytes: Memory that ``payload`` holds meanwhile.
            size: ``(H, W)`` of an image that was reduced. None: that of the probabilities.

        Returns:
            Masks that are ready by now.
        """
        if not _are_finite(probabilities):
            return self.fail(payload, NOT_FINITE)
        full = tuple(probabilities.probs.shape[-2:] if size is None else size)
        crf = self.recipe.crf_settings
        if crf is None:
            return self._add_without_crf(name, probabilities, payload, full)
        place = self._new_place(payload)
        try:
            image = read_image()
        except (OSError, ValueError) as error:
            place.made = _failed(payload, str(error))
            return self._ready()
        low = worked_size(full, self.recipe.max_pixels)
        if low != full:
            self._tell_of_limit(name, full, low)
            probabilities = shrink_probabilities(probabilities, low)
            place.read_image, image = read_image, shrink_image(image, low)
        kept = probabilities.without_weak(crf['epsilon'])
        place.labels = kept.labels.cpu().numpy()
        job = CRFJob(
            name, image, kept.probs, kept.labels, place, held_bytes, keep_probs=low != full
        )
        return self._take(self._open_crf(kept.probs, crf).submit(job))

    def _add_without_crf(
        self, name: str, probabilities: ClassProbabilities, payload: Any, full: Tuple
    ) -> List[MadeMask]:
        threshold = self.recipe.mask_threshold
        height, width = probabilities.probs.shape[-2:]
        low = height, width
        mask = probabilities_to_mask(probabilities, threshold)
        made = self._made(mask, probabilities, payload, threshold)
        if low != full:
            self._tell_of_limit(name, full, low)
            made = self._at_full_size(
                made, low, *full_size_mask(probabilities, full, bkg=threshold)
            )
        self._new_place(payload).made = made
        return self._ready()

    def add_mask(
        self,
        mask: Tensor,
        probabilities: Optional[ClassProbabilities] = None,
        payload: Any = None,
        bkg: Optional[float] = None,
    ) -> List[MadeMask]:
        """Hand in a mask that is made already, such as the model's own prediction.

        Args:
            mask: Dense labels ``(H, W)``.
            probabilities: What the confidence is taken from. None: there is none.
            payload: Comes back with the mask.
            bkg: The threshold that it was made with, if any.

        Returns:
            Masks that are ready by now.
        """
        if probabilities is not None and not _are_finite(probabilities):
            return self.fail(payload, NOT_FINITE)
        self._new_place(payload).made = self._made(mask, probabilities, payload, bkg)
        return self._ready()

    def fail(self, payload: Any, message: str) -> List[MadeMask]:
        """Keep the order where an image has failed before it got here."""
        self._new_place(payload).made = _failed(payload, message)
        return self._ready()

    # ---------------------------------------------------------------- get back
    def drain(self) -> List[MadeMask]:
        """Wait for the masks that are still on their way."""
        made = self._take(self._crf.drain()) if self._crf is not None else []
        return made + self._ready()

    def close(self) -> None:
        """End the processes of the CRF; what they work on is lost."""
        crf, self._crf = self._crf, None
        self._places.clear()
        if crf is not None:
            crf.close()

    def __enter__(self) -> 'MaskMaker':
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def _open_crf(self, probs: Tensor, settings: Dict[str, Any]) -> CRFQueue:
        """What runs the CRF: known once it is known where the probabilities are."""
        if self._crf is None:
            epsilon, backend = settings.pop('epsilon'), settings.pop('backend')
            self._crf = open_crf(
                DenseCRFOptions(**settings),
                epsilon=epsilon,
                backend=backend,
                device=probs.device,
                num_workers=self._num_workers,
                max_bytes=self._max_bytes,
                timeout=self.recipe.crf_timeout,
            )
        return self._crf

    def _made(
        self,
        mask: Tensor,
        probabilities: Optional[ClassProbabilities],
        payload: Any,
        bkg: Optional[float],
    ) -> MadeMask:
        """What :meth:`add_mask` says of a mask."""
        labels = confidence = mask_confidence = None
        if probabilities is not None:
            confidence = won_probability(mask, probabilities).cpu().numpy()
            labels = probabilities.labels.cpu().numpy()
            mask_confidence = confidence_of(mask, probabilities, bkg)
        array = mask.to(torch.uint8).cpu().numpy()
        mask_confidence = self._calibrated(mask_confidence, array)
        return MadeMask(payload, array, labels, confidence, None, mask_confidence)

    def _at_full_size(
        self, made: MadeMask, low: Tuple[int, int], mask: np.ndarray, pixels: np.ndarray
    ) -> MadeMask:
        """What was made at a lower size, with mask and confidence of the full one."""
        assert made.mask_confidence is not None, 'it was made of probabilities'
        if self._curves is not None:
            # one row at a time: a curve works in double precision
            for row, labels in zip(pixels, mask):
                row[:] = self._curves.pixels(row, labels)
        return made._replace(
            mask=mask,
            mask_confidence=made.mask_confidence._replace(pixels=pixels),
            worked_size=low,
        )

    def _tell_of_limit(self, name: str, full: Tuple, low: Tuple) -> None:
        """Say once that an image is worked on at a lower size."""
        if not self._told_of_limit:
            self._told_of_limit = True
            print_log(
                f'{name} has {full[0]}x{full[1]} pixels, more than max_pixels='
                f'{self.recipe.max_pixels}: it is worked on at {low[0]}x{low[1]}, and its '
                'mask brought back to its size; other large images likewise',
                'current',
            )

    def _calibrated(
        self, raw: Optional[MaskConfidence], mask: Optional[np.ndarray]
    ) -> Optional[MaskConfidence]:
        """Confidence by the curves, if there are any, of a mask ``(H, W)``."""
        if raw is None or mask is None or self._curves is None:
            return raw
        return MaskConfidence(
            self._curves.pixels(raw.pixels, mask),
            float(self._curves.image(np.array(raw.image))),
        )

    def _new_place(self, payload: Any) -> '_Place':
        self._places.append(_Place(payload))
        return self._places[-1]

    def _take(self, results: List[CRFResult]) -> List[MadeMask]:
        for result in results:
            place: _Place = result.payload
            if result.error is not None:
                place.made = _failed(place.payload, result.error)
            else:
                place.made = MadeMask(
                    place.payload,
                    result.mask,
                    place.labels,
                    result.confidence,
                    None,
                    self._calibrated(result.mask_confidence, result.mask),
                )
                self._bring_back(place, result)
        return self._ready()

    def _bring_back(self, place: _Place, result: CRFResult) -> None:
        """Give an image that was refined at a lower size its mask at the full one."""
        if place.read_image is None or place.made is None:
            return
        try:  # once more, so that no large image is held meanwhile
            image = place.read_image()
        except (OSError, ValueError) as error:
            place.made = _failed(place.payload, str(error))
            return
        refined = ClassProbabilities(
            torch.from_numpy(result.probs), torch.from_numpy(place.labels)
        )
        height, width = refined.probs.shape[-2:]
        place.made = self._at_full_size(
            place.made, (height, width), *full_size_mask(refined, image.shape[:2], image)
        )

    def _ready(self) -> List[MadeMask]:
        ready: List[MadeMask] = []
        while self._places and (made := self._places[0].made) is not None:
            ready.append(made)
            self._places.popleft()
        return ready


def _are_finite(probabilities: ClassProbabilities) -> bool:
    return bool(torch.isfinite(probabilities.probs).all())


def _failed(payload: Any, message: str) -> MadeMask:
    return MadeMask(payload, None, None, None, message)
