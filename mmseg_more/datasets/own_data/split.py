"""Deals images to training and validation, each class in proportion."""

import random
from collections import Counter
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple


class Split(NamedTuple):
    """IDs of images, sorted."""

    train: List[str]
    """To train on."""
    val: List[str]
    """To validate on."""


def draw_split(
    labels: Dict[str, List[str]],
    val_share: float,
    seed: int,
    copies: Iterable[Sequence[str]] = (),
) -> Split:
    """Draw a split by iterative stratification (Sechidis et al., ECML 2011).

    The class with the fewest images left is dealt next, each of its images to the side that
    lacks most of that class. So the only image of a class is trained on.

    Args:
        labels: Class names by image ID; two images at least.
        val_share: Share of the images to validate on, in (0, 1).
        seed: The same seed draws the same images.
        copies: Groups of IDs that stay on one side; others than those of ``labels`` are
            passed over.

    Raises:
        ValueError: If there are fewer than two pictures, or each is the only one of a
            class.
    """
    groups = _groups(labels, copies)
    if len(groups) < 2:
        raise ValueError(
            f'a split needs two different images with labels, there are {len(groups)}'
        )
    random.Random(seed).shuffle(groups)
    train, val = _deal(groups, labels, (1 - val_share, val_share))
    if not val:  # of very few images
        val = [_spared(train, labels)]
        train.remove(val[0])
    return Split(*(sorted(i for group in side for i in group) for side in (train, val)))


def _deal(
    groups: List[List[str]], labels: Dict[str, List[str]], shares: Tuple[float, float]
) -> List[List[List[str]]]:
    """The groups of each side."""
    names = [sorted({name for i in group for name in labels[i]}) for group in groups]
    in_all = Counter(name for of_group in names for name in of_group)
    # what a side lacks of each class, and of images at all
    lacks = [{name: share * n for name, n in in_all.items()} for share in shares]
    lacks_images = [share * len(groups) for share in shares]
    sides: List[List[List[str]]] = [[], []]
    left = list(range(len(groups)))
    while left:
        counts = Counter(name for index in left for name in names[index])
        rarest = min(counts, key=lambda name: (counts[name], name), default='')
        for index in [i for i in left if not rarest or rarest in names[i]]:
            side = max(
                (0, 1), key=lambda s: (lacks[s].get(rarest, 0.0), lacks_images[s], -s)
            )
            for name in names[index]:
                lacks[side][name] -= 1
            lacks_images[side] -= 1
            sides[side].append(groups[index])
            left.remove(index)
    return sides


def _spared(train: List[List[str]], labels: Dict[str, List[str]]) -> List[str]:
    """A group whose classes others have as well."""
    counts = Counter(n for group in train for n in {n for i in group for n in labels[i]})
    for group in train:
        if all(counts[name] > 1 for image_id in group for name in labels[image_id]):
            return group
    raise ValueError(
        'no image can be spared for validation, as each is the only one of a class: add '
        'images'
    )


def _groups(
    labels: Dict[str, List[str]], copies: Iterable[Sequence[str]]
) -> List[List[str]]:
    """The images, those that are copies of each other together; sorted."""
    group_of: Dict[str, List[str]] = {}
    for ids in copies:
        group = sorted(image_id for image_id in ids if image_id in labels)
        group_of.update(dict.fromkeys(group, group))
    for image_id in labels:
        group_of.setdefault(image_id, [image_id])
    return sorted({id(group): group for group in group_of.values()}.values())
