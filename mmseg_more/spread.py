"""A few of many, at equal distances."""

from typing import List

import numpy as np


def spread_indices(size: int, number: int) -> List[int]:
    """Indices of some items, the first and the last among them.

    Args:
        size: Number of items, at least 1.
        number: How many are wanted; more than there are means all.
    """
    return np.linspace(0, size - 1, min(number, size)).round().astype(int).tolist()
