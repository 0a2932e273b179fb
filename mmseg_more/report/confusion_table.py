"""Which class is taken for which."""

from typing import List, NamedTuple, Optional, Sequence

from torch import Tensor

MATRIX_LABELS = 31
"""Up to so many labels the whole matrix is shown, as of 30 classes and background."""
NUM_CONFUSIONS = 12
"""So many of the largest confusions are listed."""


class Confusion(NamedTuple):
    """Pixels of one class that were given the label of another."""

    truth: str
    """Name of the class that they are."""
    label: str
    """Name of the class that they were taken for."""
    share: float
    """Of the pixels of ``truth``, in percent."""


class ConfusionTable(NamedTuple):
    """What a page shows of a confusion matrix."""

    rows: Optional[List[List[Optional[float]]]]
    """Percent of the pixels of each true class by label, ``(C, C)``; None in the row of a
    class that does not occur. None: there are too many labels."""
    largest: List[Confusion]
    """The largest confusions, the largest first."""


def confusion_table(matrix: Tensor, classes: Sequence[str]) -> ConfusionTable:
    """What a page shows of a confusion matrix.

    Args:
        matrix: Pixels ``(C, C)``, the truth in the rows.
        classes: ``C`` names.
    """
    total = matrix.sum(1, keepdim=True).double()
    shares = 100 * matrix / total
    wrong = shares.nan_to_num(0).fill_diagonal_(0).flatten()
    order = wrong.sort(descending=True, stable=True).indices[:NUM_CONFUSIONS].tolist()
    largest = [
        Confusion(classes[i // len(classes)], classes[i % len(classes)], wrong[i].item())
        for i in order
        if wrong[i] > 0
    ]
    if len(classes) > MATRIX_LABELS:
        return ConfusionTable(None, largest)
    rows = [
        [value if number > 0 else None for value in row]
        for row, number in zip(shares.tolist(), total.flatten().tolist())
    ]
    return ConfusionTable(rows, largest)
