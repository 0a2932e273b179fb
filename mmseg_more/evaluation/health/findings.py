"""Which class floods or dies, by the figures of the checks so far: figures -> findings.

Nothing here knows the data set: a class is compared with the other classes of the same
check, and with itself in earlier ones.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from .figures import HealthFigures

FLOODS, DIES = 'floods', 'dies'


class HealthRules(NamedTuple):
    """When a class counts as ill.

    A class **floods** while its CAM, and with it the LAM or the segmentation, covers more
    than ``flood_border`` of the border of its images, and more than ``flood_ratio`` times
    what they cover of the images of the other classes (their lower quartile: several may
    flood at once). A CAM alone that floods mostly comes back; once another map has
    followed, the labels keep it there. It
    **dies** while its CAM is sure of less than ``death_ratio`` times what the other classes
    are sure of (their median), or of less than ``death_ratio`` times what it was sure of
    itself (its own median over the earlier checks). Either must hold in ``patience`` checks
    in a row before it is said, and be gone for as many before it is taken back.

    Checks before the losses learn from the maps do not count: the CAM of a classifier that
    has only begun wanders, floods and comes back, and does no harm by it.
    """

    patience: int = 2
    """Checks in a row."""
    flood_border: float = 0.3
    """Share of the border, in (0, 1)."""
    flood_ratio: float = 2.0
    """Times the coverage of the others, at least 1."""
    death_ratio: float = 0.1
    """Times what the others, or the class itself, were sure of, in (0, 1)."""
    min_images: int = 4
    """Classes of which fewer images are looked at are left alone."""
    memory: int = 50
    """Checks that are remembered."""

    def check(self) -> 'HealthRules':
        """These rules.

        Raises:
            ValueError: If a value is out of its range.
        """
        for name in ('patience', 'min_images'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')
        for name in ('flood_border', 'death_ratio'):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f'{name} must be between 0 and 1, got {getattr(self, name)}'
                )
        if self.flood_ratio < 1:
            raise ValueError(f'flood_ratio must be at least 1, got {self.flood_ratio}')
        if self.memory < 2 * self.patience:
            raise ValueError(
                f'memory must be at least twice the patience of {self.patience}, '
                f'got {self.memory}'
            )
        return self


class Finding(NamedTuple):
    """What has begun or ended with a class."""

    class_index: int
    """The class, 0..K-1."""
    kind: str
    """:data:`FLOODS` or :data:`DIES`."""
    recovered: bool
    """Whether it has ended."""
    since: int
    """Iteration of the first of the checks in a row that led to it."""
    seen: Dict[str, float]
    """Figures of the class at this check, shares."""
    before: Optional[float]
    """What the class covered when it was last well (before ``since``); None if it never
    was."""
    before_iteration: Optional[int]
    """When that was."""


_KEPT = ('coverage', 'sure', 'border', 'lam', 'seg')


class HealthMonitor:
    """Follows the classes from check to check.

    Args:
        num_classes: K.
        rules: When a class is ill; None for the defaults.
    """

    def __init__(self, num_classes: int, rules: Optional[HealthRules] = None) -> None:
        self.num_classes = num_classes
        self.rules = (rules or HealthRules()).check()
        self.history: List[Dict[str, Any]] = []
        """The last ``rules.memory`` checks, oldest first: plain numbers."""
        self.ill: Dict[str, List[int]] = {FLOODS: [], DIES: []}
        """Classes that have been reported and not taken back."""

    def update(
        self,
        iteration: int,
        figures: HealthFigures,
        in_use: bool = True,
        seg_in_use: bool = True,
    ) -> List[Finding]:
        """Take note of a check. One at the iteration of the last check replaces that.

        Args:
            iteration: Iterations that have been trained.
            figures: What was seen.
            in_use: Whether losses learn from the maps by now. If not, the check is
                remembered, but no class is ill by it.
            seg_in_use: Whether the segmentation learns by now. If not, it says nothing.

        Returns:
            What has begun or ended by it.
        """
        if self.history and self.history[-1]['iteration'] == iteration:
            self.history.pop()
        ill = {FLOODS: self._floods(figures, seg_in_use), DIES: self._dies(figures)}
        if not in_use:
            ill = {kind: torch.zeros_like(flags) for kind, flags in ill.items()}
        entry: Dict[str, Any] = dict(iteration=iteration)
        entry.update({name: getattr(figures, name).tolist() for name in _KEPT})
        entry.update({kind: flags.tolist() for kind, flags in ill.items()})
        self.history = [*self.history, entry][-self.rules.memory :]
        findings = []
        for kind in (FLOODS, DIES):
            for index in range(self.num_classes):
                findings += self._changes(kind, index)
        return findings

    def _changes(self, kind: str, index: int) -> List[Finding]:
        last = [entry[kind][index] for entry in self.history[-self.rules.patience :]]
        known = index in self.ill[kind]
        if len(last) < self.rules.patience or len(set(last)) > 1 or last[0] == known:
            return []
        if known:
            self.ill[kind].remove(index)
        else:
            self.ill[kind].append(index)
        return [self._finding(kind, index, recovered=known)]

    def _finding(self, kind: str, index: int, recovered: bool) -> Finding:
        state, streak = self.history[-1][kind][index], 0
        while (
            streak < len(self.history) and self.history[-1 - streak][kind][index] == state
        ):
            streak += 1
        before = self.history[-1 - streak] if streak < len(self.history) else None
        now = self.history[-1]
        return Finding(
            index,
            kind,
            recovered,
            self.history[-streak]['iteration'],
            {name: now[name][index] for name in _KEPT},
            None if before is None else before['coverage'][index],
            None if before is None else before['iteration'],
        )

    # ------------------------------------------------------------- the rules
    def _floods(self, figures: HealthFigures, seg_in_use: bool) -> Tensor:
        followed, followed_border = figures.lam, figures.lam_border
        if seg_in_use:
            followed = torch.maximum(followed, figures.seg)
            followed_border = torch.maximum(followed_border, figures.seg_border)
        coverage = torch.minimum(figures.coverage, followed)
        border = torch.minimum(figures.border, followed_border)
        others = self._others(figures, coverage, 0.25)
        # NaN compares as False: a class without images, or without others, is left alone
        return (
            self._seen(figures)
            & (border > self.rules.flood_border)
            & (coverage > self.rules.flood_ratio * others)
        )

    def _dies(self, figures: HealthFigures) -> Tensor:
        ratio = self.rules.death_ratio
        return self._seen(figures) & (
            (figures.sure < ratio * self._others(figures, figures.sure, 0.5))
            | (figures.sure < ratio * self._usual('sure'))
        )

    def _seen(self, figures: HealthFigures) -> Tensor:
        """Classes of which enough images are looked at, bool ``(K,)``."""
        return figures.images >= self.rules.min_images

    def _others(self, figures: HealthFigures, values: Tensor, quantile: float) -> Tensor:
        """A quantile of the other classes, ``(K,)``; NaN where there are none."""
        values = values.masked_fill(~self._seen(figures), torch.nan)
        table = values.expand(len(values), -1).clone()
        table.fill_diagonal_(torch.nan)
        return table.nanquantile(quantile, dim=1)

    def _usual(self, name: str) -> Tensor:
        """Median of each class over the earlier checks, ``(K,)``; NaN before the first."""
        earlier = [entry[name] for entry in self.history]
        if not earlier:
            return torch.full((self.num_classes,), torch.nan, dtype=torch.float64)
        return torch.tensor(earlier, dtype=torch.float64).nanquantile(0.5, dim=0)

    # ----------------------------------------------------------- to be saved
    def state_dict(self) -> Dict[str, Any]:
        """What :meth:`load_state_dict` needs: numbers, strings, lists and dicts."""
        ill = {kind: list(indices) for kind, indices in self.ill.items()}
        return dict(history=list(self.history), ill=ill)

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Go on where another monitor stood; of other classes it is not taken.

        Raises:
            ValueError: If the state is of another number of classes.
        """
        history: Sequence[Dict[str, Any]] = state['history']
        if history and len(history[-1]['coverage']) != self.num_classes:
            raise ValueError(
                f'the history is of {len(history[-1]["coverage"])} classes, there are '
                f'{self.num_classes}'
            )
        self.history = list(history)[-self.rules.memory :]
        self.ill = {kind: list(indices) for kind, indices in state['ill'].items()}
