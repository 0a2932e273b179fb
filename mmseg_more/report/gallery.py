"""The images of a page, the worst first, as many as the page has room for."""

import bisect
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..localization.pseudo_label import IGNORE_INDEX
from .figures import ImageFigures
from .pictures import draw_pictures
from .seen_image import SeenImage


class Card(NamedTuple):
    """One image of the gallery."""

    name: str
    """Of the image."""
    iou: Optional[float]
    """Mean IoU of the judged labels, in [0, 1]; None without truth."""
    confidence: Optional[float]
    """Their expected IoU, in [0, 1]; None if it is not known."""
    class_ious: Dict[int, float]
    """IoU by dense label."""
    labelled: Optional[List[int]]
    """Dense labels that the image labels name; None: there are none."""
    shown: List[int]
    """Dense labels that the judged labels show."""
    pictures: Dict[str, str]
    """Data URIs by title."""

    @property
    def classes(self) -> List[int]:
        """Dense labels but background that the image has to do with, ascending."""
        named = {*(self.labelled or ()), *self.shown, *self.class_ious}
        return sorted(named - {0})

    @property
    def num_bytes(self) -> int:
        """Of the pictures."""
        return sum(map(len, self.pictures.values()))


def draw_card(
    seen: SeenImage,
    figures: ImageFigures,
    palette: Sequence[Sequence[int]],
    max_pixels: int,
) -> Card:
    """An image as the gallery shows it.

    Args:
        seen: The image.
        figures: Of its judged labels.
        palette: ``C`` RGB colours, background first.
        max_pixels: As of :func:`~mmseg_more.report.pictures.draw_pictures`.
    """
    labelled = None
    if seen.gt_score is not None:
        labelled = [k + 1 for k in seen.gt_score.nonzero().flatten().tolist()]
    shown = set(seen.labels[seen.judged].unique().tolist()) - {IGNORE_INDEX}
    return Card(
        seen.name,
        figures.iou,
        seen.confidence,
        figures.class_ious,
        labelled,
        sorted(shown),
        draw_pictures(seen, palette, max_pixels),
    )


def badness(card: Card) -> Tuple[bool, float, bool, float, str]:
    """Sorts cards: the worst IoU first, without truth the least confidence."""
    iou, confidence = card.iou, card.confidence
    return iou is None, iou or 0.0, confidence is None, confidence or 0.0, card.name


class Gallery:
    """Keeps the worst cards that fit into a number of bytes.

    Args:
        max_bytes: Of all pictures together, as they stand in the page.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.cards: List[Card] = []
        """The worst first."""
        self.num_left_out = 0
        self._num_bytes = 0

    def add(self, card: Card) -> None:
        """Put a card into its place; the best ones leave if there is no room.

        A card that is larger than the whole room is left out itself.
        """
        if card.num_bytes > self.max_bytes:
            self.num_left_out += 1
            return
        bisect.insort(self.cards, card, key=badness)
        self._num_bytes += card.num_bytes
        while self._num_bytes > self.max_bytes:
            self._num_bytes -= self.cards.pop().num_bytes
            self.num_left_out += 1
