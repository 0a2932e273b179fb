"""The page: figures and gallery as one HTML file that needs no other."""

from typing import Any, Dict, Mapping, Optional, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..evaluation.report import COLUMN_TITLES
from .class_table import class_columns
from .confusion_table import confusion_table
from .figures import RunFigures, ThresholdCurve
from .gallery import Card, Gallery

CURVE_COLORS = ('#1f6feb', '#d1481f', '#218739', '#8250df')


def render_page(
    title: str,
    facts: Mapping[str, str],
    figures: RunFigures,
    gallery: Gallery,
    palette: Sequence[Sequence[int]],
) -> bytes:
    """The page.

    Whatever comes from outside (names of classes, files and folders) is escaped.

    Args:
        title: Of the page.
        facts: What the run was, name -> value.
        figures: Of all images.
        gallery: The images that are shown.
        palette: ``C`` RGB colours, background first.

    Returns:
        HTML, UTF-8. Bytes of a file name that are not are written as ``\\uNNNN``.
    """
    environment = Environment(
        loader=PackageLoader('mmseg_more.report'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    judged = figures.judged
    text = environment.get_template('page.html').render(
        title=title,
        facts=facts,
        means=_means(figures),
        classes=figures.classes,
        colors=[_color(color) for color in palette],
        columns=class_columns(figures),
        curves=[
            _curve(curve, color) for curve, color in zip(figures.curves(), CURVE_COLORS)
        ],
        judged=judged,
        confusion=confusion_table(figures.confusion(judged), figures.classes)
        if judged
        else None,
        cards=gallery.cards,
        num_left_out=gallery.num_left_out,
        data=dict(images=[_card_data(card) for card in gallery.cards]),
    )
    return text.encode('utf-8', 'backslashreplace')


def _means(figures: RunFigures) -> Dict[str, str]:
    means = {
        f'{COLUMN_TITLES.get(name, name)} mIoU': f'{100 * value.mean("iou"):.1f} %'
        for name, value in figures.segmentation().items()
    }
    confidence = figures.mean_confidence()
    if confidence is not None:
        means['mean confidence'] = f'{100 * confidence:.1f} %'
    precision = figures.class_precision()
    if precision is not None and not precision.isnan().all():
        means['image labels, mAP'] = f'{100 * precision.nanmean().item():.1f} %'
    return means


def _color(color: Sequence[int]) -> str:
    return '#' + ''.join(f'{int(value):02x}' for value in color)


def _curve(curve: ThresholdCurve, color: str) -> Dict[str, Any]:
    """A curve in the coordinates of the drawing: x of 0..400, y of 200 (0 %) to 0."""
    points = [
        (400 * threshold, 200 * (1 - miou))
        for threshold, miou in zip(curve.thresholds, curve.mious)
    ]
    of_threshold = dict(zip(curve.thresholds, zip(points, curve.mious)))

    def mark(threshold: float) -> Dict[str, float]:
        (x, y), miou = of_threshold[threshold]
        return dict(x=x, y=y, threshold=threshold, miou=100 * miou)

    return dict(
        name=COLUMN_TITLES.get(curve.name, curve.name),
        color=color,
        points=' '.join(f'{x:.1f},{y:.1f}' for x, y in points),
        fixed=mark(curve.fixed),
        best=mark(curve.best),
    )


def _card_data(card: Card) -> Dict[str, Any]:
    """What the page's script sorts and filters by."""
    return dict(
        name=card.name,
        iou=_rounded(card.iou),
        confidence=_rounded(card.confidence),
        classes=card.classes,
        ious={str(label): _rounded(iou) for label, iou in card.class_ious.items()},
    )


def _rounded(value: Optional[float]) -> Optional[float]:
    return None if value is None else round(value, 4)
