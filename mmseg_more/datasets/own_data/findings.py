"""What is wrong with a folder of images and labels, and what to do about it.

Learning where classes are from which images show them needs images that differ in a single
class. Most rules look for classes for which there are none.
"""

import difflib
import unicodedata
from collections import Counter, defaultdict
from itertools import combinations
from statistics import median
from typing import Dict, Iterator, List, NamedTuple, Sequence, Sized

from ..image_labels import name_few
from ..label_sources import match_labels
from .survey import Survey

ERROR, WARNING, NOTE = 'error', 'warning', 'note'
SEVERITIES = (ERROR, WARNING, NOTE)
FEW_IMAGES = 20
"""Images of a class, below which it is likely to be lost."""
RARE = 0.05
"""Share of the images of the most frequent class, below which a class is likely to be."""
FEW_NEGATIVES = 0.1
"""Share of images without a class, below which little tells it from what it stands in."""
TINY = 224
"""Pixels of the shorter side, below which images are enlarged (14 patches of 16)."""
LARGE = 1792
"""Pixels of the shorter side, above which details of a crop of 448 are a quarter."""
LONG = 3.0
"""Ratio of the sides, beyond which the square that networks see distorts an image."""
_ACCENTS = 'only in how accents are stored (Unicode NFC, NFD)'


class Finding(NamedTuple):
    """Something to know before training."""

    severity: str
    """``error``: without a remedy images are left out, or the training fails;
    ``warning``: the result will suffer; ``note``: what is done with it."""
    what: str
    """What was found, with the first names."""
    remedy: str
    """What to do."""

    def __str__(self) -> str:
        return f'{self.severity}: {self.what}. {self.remedy}.'


def find_all(survey: Survey) -> List[Finding]:
    """All findings, the most severe first."""
    rules = (
        _unreadable,
        _two_files,
        _without_labels,
        _without_images,
        _no_classes,
        _spelled_alike,
        _duplicates,
        _no_negatives,
        _inseparable,
        _long_tail,
        _no_empty_image,
        _sizes,
        _kinds,
        _left_out,
    )
    found = [finding for rule in rules for finding in rule(survey)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _count(things: Sized, name: str) -> str:
    return f'{len(things)} {name}' + ('' if len(things) == 1 else 's')


def _listed(
    severity: str, things: Sequence[str], name: str, what: str, remedy: str
) -> Iterator[Finding]:
    """A finding that counts and names things, if there are any."""
    if things:
        named = f'{_count(things, name)} {what}: {name_few(things)}'
        yield Finding(severity, named, remedy)


def images_by_class(labels: Dict[str, List[str]]) -> Dict[str, set]:
    """IDs of the images of each class, by its name."""
    images: Dict[str, set] = defaultdict(set)
    for image_id, names in labels.items():
        for name in names:
            images[name].add(image_id)
    return {name: images[name] for name in sorted(images)}


# -------------------------------------------------------------------- files and labels
def _unreadable(survey: Survey) -> Iterator[Finding]:
    broken = [f'{i.path} ({i.problem})' for i in survey.images if i.size is None]
    remedy = 'Replace or delete them; make_config leaves them out'
    yield from _listed(ERROR, broken, 'image', 'that cannot be read', remedy)


def _two_files(survey: Survey) -> Iterator[Finding]:
    files = defaultdict(list)
    for image in survey.images:
        files[image.image_id].append(image.path)
    twice = [' and '.join(paths) for paths in files.values() if len(paths) > 1]
    yield from _listed(
        ERROR,
        twice,
        'name',
        'shared by two images',
        'Rename or move one of each: their masks would have one name, and no data set '
        'takes a folder with both',
    )


def _without_labels(survey: Survey) -> Iterator[Finding]:
    yield from _listed(
        ERROR,
        survey.unlabelled,
        'image',
        'without labels',
        'Add them to the labels, with an empty list if they show none of the classes; '
        'make_config leaves them out',
    )


def _without_images(survey: Survey) -> Iterator[Finding]:
    if not survey.orphans:
        return
    yield Finding(
        ERROR,
        f'labels of {_count(survey.orphans, "image")} that cannot be found: '
        f'{name_few(survey.orphans)}',
        'Correct their names (capitals count) or copy the images into the folder; these '
        'labels are not used',
    )
    # macOS takes accents apart in names of files
    stored_alike = match_labels(
        {_composed(name): [] for name in survey.orphans},
        [_composed(image_id) for image_id in survey.unlabelled],
    )
    yield from _listed(
        ERROR,
        list(stored_alike.labels),
        'image',
        f'whose name differs from that in the labels {_ACCENTS}',
        'Write the names in the labels as the files have them, or rename the files',
    )


def _composed(text: str) -> str:
    """A text in one of the forms that Unicode has for it."""
    return unicodedata.normalize('NFC', text)


def _left_out(survey: Survey) -> Iterator[Finding]:
    remedy = 'Convert those that are images (to PNG or JPEG)'
    yield from _listed(NOTE, survey.left_out, 'file', 'of a type that is not read', remedy)


def _duplicates(survey: Survey) -> Iterator[Finding]:
    groups = defaultdict(list)
    for image in survey.images:
        if image.size and not image.is_blank:
            groups[image.digest].append(image.image_id)
    copies = [ids for ids in groups.values() if len(ids) > 1]
    yield from _listed(
        WARNING,
        [' = '.join(ids) for ids in copies],
        'picture',
        'in several files',
        'Keep one of each; make_config keeps them on one side of the split',
    )
    at_odds = [
        ' = '.join(ids)
        for ids in copies
        if len({frozenset(survey.labels[i]) for i in ids if i in survey.labels}) > 1
    ]
    remedy = 'Correct the labels, or keep one of the copies'
    yield from _listed(ERROR, at_odds, 'picture', 'with other labels in the copy', remedy)


# ------------------------------------------------------------------------------ classes
def _no_classes(survey: Survey) -> Iterator[Finding]:
    if not survey.classes():
        yield Finding(
            ERROR,
            'no image that can be read has a class',
            'See that the names in the labels are those of the files',
        )


def _spelled_alike(survey: Survey) -> Iterator[Finding]:
    for first, second in combinations(survey.classes(), 2):
        if _composed(first) == _composed(second):
            yield Finding(
                ERROR,
                f'{first!r} and {second!r} are two classes that differ {_ACCENTS}',
                'Write them alike',
            )
        elif _composed(first).casefold() == _composed(second).casefold():
            yield Finding(
                ERROR,
                f'{first!r} and {second!r} are two classes',
                'Write them alike if they are one, or rename one of them',
            )
        elif difflib.SequenceMatcher(None, first, second).ratio() > 0.85:
            yield Finding(
                NOTE,
                f'{first!r} and {second!r} are spelled nearly alike',
                'Write them alike if they are one class',
            )


def _no_negatives(survey: Survey) -> Iterator[Finding]:
    labels = survey.usable()
    images = images_by_class(labels)
    for name, shown in images.items():
        without = len(labels) - len(shown)
        if without == 0:
            yield Finding(
                WARNING,
                f'every image shows {name!r}'
                + (', the only class' if len(images) == 1 else ''),
                'Its map will cover whatever all images share: add images of the same '
                'surroundings without it, a quarter as many at least',
            )
        elif without < FEW_NEGATIVES * len(labels):
            yield Finding(
                WARNING,
                f'{name!r} is on all but {without} of {len(labels)} images',
                'Little tells it from its surroundings: add images without it',
            )
    if len(images) == 1 and len(labels) > len(next(iter(images.values()))):
        yield Finding(
            NOTE,
            'there is one class',
            'It is told from the background by the images without it alone: let them show '
            'the same surroundings',
        )


def _inseparable(survey: Survey) -> Iterator[Finding]:
    for (first, in_first), (second, in_second) in combinations(
        images_by_class(survey.usable()).items(), 2
    ):
        if in_first == in_second:
            yield Finding(
                WARNING,
                f'{first!r} and {second!r} never appear apart ({len(in_first)} images)',
                'Image labels cannot tell them apart: add images of each alone, or make '
                'them one class',
            )
        elif in_first < in_second or in_second < in_first:
            part, whole = (first, second) if in_first < in_second else (second, first)
            yield Finding(
                WARNING,
                f'{part!r} never appears without {whole!r} '
                f'({min(len(in_first), len(in_second))} images)',
                f'Its map may cover {whole!r} as well: add images of {part!r} alone',
            )


def _long_tail(survey: Survey) -> Iterator[Finding]:
    images = images_by_class(survey.usable())
    most = max(map(len, images.values()), default=0)
    few = [
        f'{name} ({len(shown)})'
        for name, shown in images.items()
        if len(shown) < max(FEW_IMAGES, RARE * most)
    ]
    if few:
        yield Finding(
            WARNING,
            f'few images of a class, where the largest has {most}: {name_few(few, 5)}',
            f'Below {FEW_IMAGES} images, or a twentieth of the largest class, a class is '
            'easily lost: add images, or merge classes; the health figures of the '
            'training name a class that dies',
        )


def _no_empty_image(survey: Survey) -> Iterator[Finding]:
    labels = survey.usable()
    if labels and all(labels.values()):
        yield Finding(
            NOTE,
            'every image shows a class',
            'Images of the surroundings with an empty list of classes are the best remedy '
            'against a class that takes its background along',
        )


# ------------------------------------------------------------------------------- images
def _sizes(survey: Survey) -> Iterator[Finding]:
    sizes = {image.path: image.size for image in survey.images if image.size}
    if not sizes:
        return
    tiny = [path for path, size in sizes.items() if min(size) < TINY]
    if tiny:
        yield Finding(
            WARNING,
            f'{_count(tiny, "tiny image")}, below {TINY} pixels: {name_few(tiny)}',
            'They are enlarged, and outlines stay coarse: take larger originals, or '
            '--network vit-t of make_config, whose patches are smaller',
        )
    if median(map(min, sizes.values())) > LARGE:
        yield Finding(
            NOTE,
            f'the images are large ({int(median(map(min, sizes.values())))} pixels)',
            'The network sees them at 448: cut them into tiles, with labels of their own, '
            'if what is looked for is small in them',
        )
    long = [path for path, size in sizes.items() if max(size) > LONG * min(size)]
    yield from _listed(
        NOTE,
        long,
        'image',
        f'more than {LONG:g} times as long as wide',
        'The network sees a square of them, distorted: cut them into parts',
    )


def _kinds(survey: Survey) -> Iterator[Finding]:
    policies = (
        ('of more than 8 bits', lambda i: i.bits > 8, 'The 8 highest that are used count'),
        ('with transparency', lambda i: i.is_transparent, 'They are laid on white'),
        (
            'turned by EXIF',
            lambda i: i.is_turned,
            'They are read, and their masks written, as a viewer shows them',
        ),
    )
    for what, applies, policy in policies:
        paths = [image.path for image in survey.images if image.size and applies(image)]
        yield from _listed(NOTE, paths, 'image', what, policy)
    blank = [image.path for image in survey.images if image.is_blank]
    remedy = 'Delete them, or give them an empty list of classes'
    yield from _listed(WARNING, blank, 'image', 'of a single colour', remedy)


def count_types(survey: Survey) -> Dict[str, int]:
    """Number of images by the suffix of the file, the most frequent first."""
    suffixes = (image.path.rsplit('.', 1)[-1].lower() for image in survey.images)
    return dict(Counter(suffixes).most_common())
