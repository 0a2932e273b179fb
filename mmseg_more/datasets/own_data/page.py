"""One page about a folder of images and its labels."""

from collections import Counter
from itertools import combinations
from statistics import median
from typing import Iterator, List, Sequence

from prettytable import PrettyTable

from .findings import Finding, count_types, images_by_class
from .survey import Survey

MATRIX_CLASSES = 10
"""So many classes, at most, have their co-occurrences shown in a table of all pairs."""


def survey_page(survey: Survey, findings: Sequence[Finding]) -> str:
    """The page, as text.

    Args:
        survey: Of the images.
        findings: Those that are shown.
    """
    usable = survey.usable()
    parts = [
        f'{len(survey.images)} images in {survey.folder}; labels: {survey.form}\n'
        f'{len(usable)} can be trained on, {sum(not n for n in usable.values())} of them '
        'without any class',
        '\n'.join(_image_lines(survey)),
    ]
    if survey.classes():
        parts.extend([_class_table(survey), _together(survey)])
    parts.extend(str(finding) for finding in findings)
    if not findings:
        parts.append('Nothing stands out.')
    return '\n\n'.join(part for part in parts if part)


def _image_lines(survey: Survey) -> Iterator[str]:
    types = ', '.join(f'{count} {suffix}' for suffix, count in count_types(survey).items())
    yield f'types: {types}'
    sizes = [image.size for image in survey.images if image.size]
    if sizes:
        heights, widths = zip(*sizes)
        yield 'pixels, H x W: ' + ', '.join(
            f'{name} {int(of(heights))} x {int(of(widths))}'
            for name, of in (('smallest', min), ('median', median), ('largest', max))
        )


def _class_table(survey: Survey) -> str:
    labels = survey.usable()
    table = PrettyTable(['class', 'images', 'alone', 'without it'])
    table.align = 'r'
    table.align['class'] = 'l'
    for name, shown in images_by_class(labels).items():
        alone = sum(len(labels[image_id]) == 1 for image_id in shown)
        table.add_row([name, len(shown), alone, len(labels) - len(shown)])
    return table.get_string()


def _together(survey: Survey) -> str:
    """How many images show two classes."""
    counts: Counter = Counter()
    for names in survey.usable().values():
        counts.update(combinations(sorted(names), 2))
    classes = survey.classes()
    if len(classes) < 2:
        return ''
    if len(classes) > MATRIX_CLASSES:
        pairs = (f'{a} + {b} {n}' for (a, b), n in counts.most_common(MATRIX_CLASSES))
        return 'most often together: ' + ', '.join(pairs)
    table = PrettyTable(['images with both', *classes])
    table.align = 'r'
    for first in classes:
        cells: List[object] = [first]
        for second in classes:
            pair = (min(first, second), max(first, second))
            cells.append('' if first == second else counts[pair])
        table.add_row(cells)
    return table.get_string()
