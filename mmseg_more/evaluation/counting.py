"""Counts that are summed over images, on one rank or several."""

from typing import Dict, List, Mapping

from mmengine.dist import all_gather_object, get_dist_info
from mmengine.evaluator import BaseMetric
from torch import Tensor


class CountingMetric(BaseMetric):
    """Base of metrics that keep sums of counts, not images.

    Memory does not grow with the images' size. In distributed runs every image
    counts once: the duplicates by which MMEngine's ``DefaultSampler`` pads the last
    batch are left out.

    A subclass calls :meth:`_new_image` for each image and :meth:`_add` for its
    counts, then or later; in :meth:`compute_metrics` it finds the sums of all ranks
    in ``self._counts``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._reset()

    def _reset(self) -> None:
        self._counts: Dict[str, Tensor] = {}
        self._last: Dict[str, Tensor] = {}  # of the last image so far
        self._num_images = 0
        self.results: List[tuple] = []

    def _num_classes(self) -> int:
        """``K`` of the data set.

        Raises:
            ValueError: If its classes do not begin with the background.
        """
        names = (self.dataset_meta or {}).get('classes')
        if not names or names[0] != 'background':
            raise ValueError(
                f'{type(self).__name__} needs dataset_meta["classes"] with '
                f'"background" first and then the K classes, got {names}'
            )
        return len(names) - 1

    def _new_image(self, result: tuple) -> int:
        """Begin an image.

        Args:
            result: What to gather of it, for :meth:`compute_metrics`.

        Returns:
            Its number on this rank, for :meth:`_add`.
        """
        accumulate(self._counts, self._last)
        self._last = {}
        self._num_images += 1
        self.results.append(result)
        return self._num_images - 1

    def _add(self, image: int, counts: Mapping[str, Tensor]) -> None:
        """Add counts of an image, any but the last of which is no padding."""
        is_last = image == self._num_images - 1
        accumulate(self._last if is_last else self._counts, counts)

    def evaluate(self, size: int) -> dict:
        """Sum over the ranks and compute the figures.

        Image ``j`` of rank ``r`` of ``R`` is image ``j R + r`` of the data
        set, by which :meth:`BaseMetric.evaluate` drops padding from
        ``self.results``. The counts follow the same rule: a sampler pads at
        most the last image of each rank.

        Args:
            size: Number of images of the data set.
        """
        rank, world_size = get_dist_info()
        padded = world_size > 1 and ((self._num_images - 1) * world_size + rank >= size)
        try:
            if not padded:
                accumulate(self._counts, self._last)
            totals: Dict[str, Tensor] = {}
            for counts in all_gather_object(self._counts):
                accumulate(totals, counts)
            self._counts = totals
            return super().evaluate(size)
        finally:
            self._reset()


def accumulate(sums: Dict[str, Tensor], counts: Mapping[str, Tensor]) -> None:
    """Add counts to sums, in place; a sum that does not exist yet begins.

    Args:
        sums: Sums by name, changed.
        counts: What is added, by name; tensors of the shapes of the sums.
    """
    for name, count in counts.items():
        sums[name] = sums[name] + count if name in sums else count
