"""How many elements a loss averages over: those of this process, or of all."""

from typing import Dict, Mapping, NamedTuple

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor


class BatchCounts(NamedTuple):
    """Numbers of the elements of two kinds, each of which a loss averages by itself."""

    numbers: Tensor
    """int64 ``(2, )``: of each kind, in the batches of all ``num_processes``."""
    num_processes: int = 1
    """Whose batches were counted."""

    def average(self, total: Tensor, kind: int, epsilon: float) -> Tensor:
        """This process's part in the average over the elements of a kind.

        ``num_processes * total / (number + epsilon)``. The mean of it over the processes,
        which DistributedDataParallel takes of gradients, is the average over the elements
        of all of them.

        Args:
            total: Sum over the elements of this process, a scalar.
            kind: 0 or 1.
            epsilon: What is added to the number.
        """
        return self.num_processes * total / (self.numbers[kind] + epsilon)


def count_batch(first: Tensor, second: Tensor) -> BatchCounts:
    """Count the elements of this process.

    Args:
        first: Which elements are of kind 0, bool, any shape.
        second: Which are of kind 1.
    """
    return BatchCounts(torch.stack([first.sum(), second.sum()]))


@torch.compiler.disable
def count_all_batches(counts: Mapping[str, BatchCounts]) -> Dict[str, BatchCounts]:
    """Add up what the processes have counted, by one all-reduce.

    All processes call it at the same points, with the same names, also one that has counted
    nothing. Without a process group the counts stay what they are.

    Args:
        counts: Name of a loss -> counts of this process.
    """
    if not counts:
        return {}
    numbers = torch.stack([each.numbers for each in counts.values()])  # (losses, 2)
    all_reduce(numbers)
    return {name: BatchCounts(row, get_world_size()) for name, row in zip(counts, numbers)}
