"""The split of a user's own images."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseg_more.datasets.own_data import draw_split

CLASSES = ['cat', 'dog', 'owl']


def labels_of(counts):
    """So many images of each combination of classes."""
    return {
        f'{"-".join(names)}{i}': list(names)
        for names, count in counts.items()
        for i in range(count)
    }


def test_each_class_in_proportion():
    labels = labels_of({('cat',): 50, ('dog',): 20, ('cat', 'owl'): 10, (): 20})
    split = draw_split(labels, 0.2, seed=0)
    assert len(split.val) == 20 and len(split.train) == 80
    assert not set(split.val) & set(split.train)
    shown = Counter(name for image_id in split.val for name in labels[image_id])
    assert shown == dict(cat=12, dog=4, owl=2)


def test_the_seed_draws():
    labels = labels_of({('cat',): 20, (): 20})
    assert draw_split(labels, 0.2, 0) == draw_split(dict(reversed(labels.items())), 0.2, 0)
    assert draw_split(labels, 0.2, 0) != draw_split(labels, 0.2, 1)


def test_copies_stay_together():
    labels = labels_of({('cat',): 10})
    for seed in range(10):
        split = draw_split(labels, 0.5, seed, [['cat0', 'cat1', 'cat2', 'elsewhere']])
        assert len({image_id in split.val for image_id in ('cat0', 'cat1', 'cat2')}) == 1


def test_two_images_are_needed():
    assert draw_split({'a': ['cat'], 'b': []}, 0.2, 0) == (['a'], ['b'])
    with pytest.raises(ValueError, match='needs two different images with labels'):
        draw_split({'a': ['cat'], 'b': []}, 0.2, 0, [['a', 'b']])


def test_only_images_of_classes_are_not_spared():
    labels = {'a': ['cat'], 'b': ['dog'], 'c': ['owl']}
    with pytest.raises(ValueError, match='no image can be spared for validation'):
        draw_split(labels, 0.2, 0)
    assert draw_split({**labels, 'd': ['owl']}, 0.2, 0).val in (['c'], ['d'])


@given(
    st.lists(st.lists(st.sampled_from(CLASSES), unique=True), min_size=5, max_size=40),
    st.integers(0, 5),
)
def test_every_class_is_trained_on(names, seed):
    labels = {f'{i:02d}': list(of_image) for i, of_image in enumerate(names)}
    split = draw_split(labels, 0.2, seed)
    assert sorted(split.train + split.val) == sorted(labels)
    assert split.val
    trained = {name for image_id in split.train for name in labels[image_id]}
    assert trained == {name for of_image in names for name in of_image}
