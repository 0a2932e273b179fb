"""Base of metrics that make masks, with the CRF at work while the network goes on."""

import weakref
from abc import abstractmethod
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..masks.maker import MadeMask, MaskMaker
from ..masks.recipe import MaskRecipe
from ..models.structures import LocalizationRequest
from .counting import CountingMetric


class MaskMetric(CountingMetric):
    """Base of metrics that make masks of what a network says, and score them.

    A subclass opens its makers with the first image (:meth:`_open_makers`), hands every
    image to them in :meth:`_process_image` and what is ready by then to :meth:`_collect`,
    and counts each mask in :meth:`_count_mask`. An image without a mask ends the run:
    figures over the others would not be comparable.

    Args:
        num_workers: Processes for the CRF, as in :class:`~mmseg_more.masks.MaskMaker`.
        ignore_index: Label of pixels that do not count.
        out_json: File to write to.
        backend_args: Where the images are read from, as in ``LoadImageFromFile``.
        collect_device: As in :class:`BaseMetric`.
        prefix: As in :class:`BaseMetric`.
    """

    def __init__(
        self,
        num_workers: Optional[int] = None,
        ignore_index: int = 255,
        out_json: Optional[str] = None,
        backend_args: Optional[dict] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        self._makers: Dict[str, MaskMaker] = {}
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.num_workers = num_workers
        self.ignore_index = ignore_index
        self.out_json = out_json
        self.backend_args = backend_args
        self.localization_request: Optional[LocalizationRequest] = None

    def _reset(self) -> None:
        super()._reset()
        if self._makers:
            self._close_makers()
            self._makers = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Make the masks of one batch, and count those that are ready.

        Args:
            data_batch: Not used.
            data_samples: Samples of the model as dicts.

        Raises:
            KeyError, ValueError: If a sample lacks what the masks are made of.
            RuntimeError: If the CRF of an image has failed; with its name.
        """
        try:
            for sample in data_samples:
                self._process_image(sample)
        except BaseException:
            self._reset()
            raise

    def evaluate(self, size: int) -> dict:
        """Wait for the CRF, then sum over the ranks and compute the figures.

        Args:
            size: Number of images of the data set.
        """
        try:
            for name, maker in self._makers.items():
                self._collect(name, maker.drain())
            return super().evaluate(size)
        finally:
            self._reset()

    def _open_makers(self, recipes: Mapping[str, MaskRecipe]) -> None:
        """Open a maker of each recipe, as ``self._makers``."""
        self._makers = {
            name: MaskMaker(recipe, self.num_workers) for name, recipe in recipes.items()
        }
        # once, at the latest when a run that broke off is forgotten
        self._close_makers = weakref.finalize(self, _close, [*self._makers.values()])

    def _collect(self, name: str, masks: List[MadeMask]) -> None:
        """Count masks that a maker has finished.

        Args:
            name: Of the maker.
            masks: As it gave them.
        """
        for made in masks:
            if made.error is not None:
                raise RuntimeError(
                    f'{made.error}. Figures over the other images alone would not be '
                    'comparable: repair this one or take it out of the split'
                )
            self._count_mask(name, made)

    @abstractmethod
    def _process_image(self, sample: dict) -> None:
        """Hand an image to the makers."""

    @abstractmethod
    def _count_mask(self, name: str, made: MadeMask) -> None:
        """Count a mask, by its ``payload``."""


def _close(makers: Sequence[MaskMaker]) -> None:
    for maker in makers:
        maker.close()
