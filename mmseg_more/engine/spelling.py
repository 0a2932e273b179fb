"""The name that was probably meant."""

from typing import Iterable, List, Optional


def closest(name: str, known: Iterable[str]) -> Optional[str]:
    """The known name that one or two slips of the keyboard turn into ``name``.

    One slip is a letter missing, added, replaced or swapped with the next; two are
    allowed where the name has more than six letters. None if there is no such name.
    """
    allowed = 1 if len(name) <= 6 else 2
    near = [other for other in known if abs(len(other) - len(name)) <= allowed]
    if not near:
        return None
    distance, found = min((_slips(name, other), other) for other in sorted(near))
    return found if distance <= allowed else None


def _slips(one: str, two: str) -> int:
    """Optimal string alignment distance."""
    before: List[int] = []
    last = list(range(len(two) + 1))
    for i, a in enumerate(one):
        row = [i + 1]
        for j, b in enumerate(two):
            cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a != b))
            if i and j and a == two[j - 1] and b == one[i - 1]:
                cost = min(cost, before[j - 1] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
