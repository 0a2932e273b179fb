"""Each rule finds what it is for, and nothing where all is well."""

import pytest

from mmseg_more.datasets.own_data import ImageFacts, Survey, find_all


def survey(labels, images=None, **fields):
    """Of one image per label unless ``images`` are given, without anything odd."""
    if images is None:
        images = [facts(f'{image_id}.jpg', digest=image_id) for image_id in labels]
    settings = dict(left_out=[], unlabelled=[], orphans=[])
    return Survey('photos', 'JSON', images, labels=labels, **{**settings, **fields})


def facts(path, size=(480, 640), **fields):
    return ImageFacts(path, size, **{'digest': path, **fields})


def healthy(classes=('cat', 'dog')):
    """25 images of each class, 5 of all, 25 of none."""
    labels = {f'{name}{i}': [name] for name in classes for i in range(20)}
    labels.update({f'all{i}': list(classes) for i in range(5)})
    labels.update({f'none{i}': [] for i in range(25)})
    return labels


def found(labels, images=None, **fields):
    return [str(finding) for finding in find_all(survey(labels, images, **fields))]


def test_nothing_stands_out():
    assert found(healthy()) == []


@pytest.mark.parametrize(
    'labels, expected',
    [
        ({f'{i}': ['cat'] for i in range(30)}, "warning: every image shows 'cat', the"),
        (
            {f'{i}': ['cat'] if i % 2 else ['cat', 'dog'] for i in range(60)},
            "warning: every image shows 'cat'.",
        ),
        (
            {f'{i}': ['cat'] if i < 50 else [] for i in range(53)},
            "warning: 'cat' is on all but 3 of 53 images",
        ),
        ({f'{i}': ['cat'] * (i < 50) for i in range(80)}, 'note: there is one class'),
        (
            {**healthy(), **{f'x{i}': ['ship', 'sea'] for i in range(20)}},
            "warning: 'sea' and 'ship' never appear apart (20 images)",
        ),
        (
            {**healthy(), **{f'x{i}': ['cat', 'sofa'] for i in range(20)}},
            "warning: 'sofa' never appears without 'cat' (20 images)",
        ),
        (
            {**healthy(), **{f'x{i}': ['owl'] for i in range(19)}},
            'warning: few images of a class, where the largest has 25: '
            "'owl (19)'",
        ),
        (
            {i: names for i, names in healthy().items() if names},
            'note: every image shows a class',
        ),
        ({**healthy(), 'x': ['Cat']}, "error: 'Cat' and 'cat' are two classes. "),
        (
            {**healthy(), 'x': ['caf\u00e9'], 'y': ['cafe\u0301']},
            "error: 'cafe\u0301' and 'caf\u00e9' are two classes that differ only in how "
            'accents are stored (Unicode NFC, NFD). Write',
        ),
        (
            {**healthy(), 'x': ['Caf\u00e9'], 'y': ['cafe\u0301']},
            "error: 'Caf\u00e9' and 'cafe\u0301' are two classes. ",
        ),
        (
            {**healthy(), **{f'x{i}': ['elephant' + 's' * (i % 2)] for i in range(40)}},
            "note: 'elephant' and 'elephants' are spelled nearly alike",
        ),
        ({'a': []}, 'error: no image that can be read has a class'),
    ],
)  # fmt: skip
def test_classes(labels, expected):
    assert any(text.startswith(expected) for text in found(labels)), found(labels)


def test_a_class_of_a_twentieth_is_rare():
    labels = {f'a{i}': ['cat'] for i in range(1000)}
    labels.update(
        {f'b{i}': ['dog'] for i in range(49)}, **{f'c{i}': [] for i in range(100)}
    )
    assert found(labels)[0].startswith('warning: few images of a class')
    labels['b49'] = ['dog']
    assert not any('few images' in text for text in found(labels))


@pytest.mark.parametrize(
    'image, expected',
    [
        (
            facts('x.jpg', None, problem='empty'),
            "error: 1 image that cannot be read: 'x.jpg (empty)'",
        ),
        (facts('x.jpg', (223, 300)), 'warning: 1 tiny image, below 224'),
        (facts('x.jpg', (300, 901)), 'note: 1 image more than 3 times as long as wide'),
        (facts('x.png', bits=16), 'note: 1 image of more than 8 bits'),
        (facts('x.png', is_transparent=True), 'note: 1 image with transparency'),
        (facts('x.jpg', is_turned=True), 'note: 1 image turned by EXIF'),
        (facts('x.jpg', is_blank=True), 'warning: 1 image of a single colour'),
        (facts('cat0.png'), "error: 1 name shared by two images: 'cat0.jpg and cat0.png'"),
        (
            facts('x.jpg', digest='cat0.jpg'),
            "warning: 1 picture in several files: 'cat0 = x'",
        ),
    ],
)
def test_images(image, expected):
    labels = {**healthy(), image.image_id: ['cat']}
    images = [facts(f'{image_id}.jpg') for image_id in healthy()]
    (only,) = found(labels, [*images, image])
    assert only.startswith(expected)


def test_copies_with_other_labels_are_an_error():
    labels = {**healthy(), 'x': ['dog']}
    images = [facts(f'{image_id}.jpg') for image_id in healthy()]
    texts = found(labels, [*images, facts('x.jpg', digest='cat0.jpg')])
    assert texts[0].startswith("error: 1 picture with other labels in the copy: 'cat0 = x'")


def test_large_images():
    images = [facts(f'{image_id}.jpg', (2000, 3000)) for image_id in healthy()]
    (only,) = found(healthy(), images)
    assert only.startswith('note: the images are large (2000 pixels)')


def test_what_does_not_belong_together_comes_first():
    texts = found(
        healthy(), unlabelled=['y', 'z'], orphans=['img_9.jpg'], left_out=['a.heic']
    )
    assert [text.split('.')[0] for text in texts] == [
        "error: 2 images without labels: 'y', 'z'",
        "error: labels of 1 image that cannot be found: 'img_9",
        "note: 1 file of a type that is not read: 'a",
    ]


def test_names_with_accents_stored_in_two_ways():
    texts = found(
        healthy(),
        unlabelled=['s/gro\u0308\u00dfe', 'b'],
        orphans=['s/gr\u00f6\u00dfe.jpg', 'c.jpg'],
    )
    (text,) = (text for text in texts if 'Unicode' in text)
    assert text.startswith('error: 1 image whose name differs from that in the labels only')
    assert "'s/gr\u00f6\u00dfe'" in text
    assert not any(
        'Unicode' in t for t in found(healthy(), unlabelled=['b'], orphans=['c'])
    )


def test_every_finding_says_what_to_do():
    for text in found({'a': ['Cat'], 'b': ['cat']}, orphans=['x'], unlabelled=['y']):
        assert text.count('. ') >= 1 and text.endswith('.')
