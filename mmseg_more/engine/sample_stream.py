"""The samples of a whole training, one after the other, from any of them on."""

import itertools
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple, Union

from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, Dataset, Sampler

from mmseg.registry import DATA_SAMPLERS, DATASETS

from .randomness import seed_generators


class Draw(NamedTuple):
    """One sample of a training."""

    image: int
    """Its index in the data set."""
    key: Tuple[int, ...]
    """What its augmentation is random by, see :func:`seed_generators`."""


class SampleStream(Sampler):
    """A batch sampler that never ends and can begin at any batch without loading an image.

    It gives what its batch sampler gives, epoch after epoch, as lists of :class:`Draw`. The
    key of each is the seed and the sample's position in the training, counted over all
    processes. A data set behind :class:`SeededSamples` therefore augments a sample in the
    same way wherever the training began, in whatever worker.

    It is empty until :meth:`start`, so that a loader can be built before that is known.

    Args:
        sampler: Gives the indices of this process, the same ones whenever it is asked.
        batch_size: Samples of a batch, of this process.
        drop_last: Whether a smaller batch at the end of an epoch is left out. Defaults to
            False.
        batch_sampler: Config of another batch sampler than PyTorch's. None for that.

    Raises:
        ValueError: If ``drop_last`` is set beside a ``batch_sampler``.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        drop_last: bool = False,
        batch_sampler: Optional[dict] = None,
    ) -> None:
        if drop_last and batch_sampler is not None:
            raise ValueError(
                'train_dataloader has drop_last=True beside a batch_sampler: set it there'
            )
        self.sampler = sampler
        self.batch_size = batch_size
        self._batches: Any = (
            BatchSampler(sampler, batch_size, drop_last)
            if batch_sampler is None
            else DATA_SAMPLERS.build(
                batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        )
        self._seed = 0
        self._first: Optional[int] = None

    def start(self, seed: int, first: int) -> None:
        """Have the next iterator begin at a batch.

        Args:
            seed: Of the training, >= 0, the same in all processes.
            first: Number of the batch, 0-based.
        """
        self._seed = seed
        self._first = first

    def __iter__(self) -> Iterator[List[Draw]]:
        """The batches from the first on; none before :meth:`start`."""
        if self._first is None:
            return
        rank, world_size = get_dist_info()
        position = rank
        for number, indices in enumerate(self._epochs()):
            if number >= self._first:
                yield [
                    Draw(index, (self._seed, position + i * world_size))
                    for i, index in enumerate(indices)
                ]
            position += len(indices) * world_size

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self._batches)

    def _epochs(self) -> Iterator[List[int]]:
        """Batches of indices, epoch after epoch."""
        for epoch in itertools.count():
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            batch = None
            for batch in self._batches:
                yield batch
            if batch is None:
                raise ValueError(
                    'train_dataloader gives no batch: its data set holds fewer images than '
                    f'a batch of {self.batch_size}, and the rest is dropped'
                )


class SeededSamples(Dataset):
    """A data set whose random augmentations follow the key of a :class:`Draw`.

    Everything but the samples is that of the data set inside. Augmentations have to take
    their numbers from the global generators of Python, NumPy or PyTorch.

    Args:
        dataset: The data set, or its config.
    """

    def __init__(self, dataset: Union[Dataset, dict]) -> None:
        self._dataset: Any = (
            DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        )

    def __getitem__(self, draw: Draw) -> Any:
        seed_generators(*draw.key)
        return self._dataset[draw.image]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        # not while a copy of it is made, which has no data set yet, or is asked how to
        if name == '_dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self._dataset, name)
