import csv
import io
import json
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmseg_more.datasets.image_labels import (
    label_indices,
    read_label_file,
    read_voc_annotation,
)

LABELS = {'a': ['cat'], 'b': ['dog', 'traffic light'], 'c': []}


@pytest.fixture
def write(tmp_path):

    def _write(name, text):
        (tmp_path / name).write_text(text, encoding='utf-8')
        return tmp_path / name

    return _write


def test_json_and_csv_say_the_same(write):
    assert read_label_file(write('l.json', json.dumps(LABELS))) == LABELS
    csv = 'image,labels\na,cat\nb,dog; traffic light\n\nc,\n'
    assert read_label_file(write('l.csv', csv)) == LABELS
    assert read_label_file(write('bom.csv', '\ufeff' + csv)) == LABELS


def test_coco_instances(write):
    content = dict(
        images=[
            dict(id=9, file_name='x/COCO_train2014_000000000009.jpg'),
            dict(id=25, file_name='COCO_train2014_000000000025.jpg'),
        ],
        annotations=[
            dict(image_id=9, category_id=90, iscrowd=1),
            dict(image_id=9, category_id=1, iscrowd=0),
            dict(image_id=9, category_id=90, iscrowd=0),
        ],
        categories=[dict(id=1, name='person'), dict(id=90, name='toothbrush')],
    )
    assert read_label_file(write('i.json', json.dumps(content))) == {
        'COCO_train2014_000000000009': ['person', 'toothbrush'],
        'COCO_train2014_000000000025': [],
    }
    content['annotations'][0]['image_id'] = 7
    with pytest.raises(ValueError, match='i.json is not a COCO instances file.*7'):
        read_label_file(write('i.json', json.dumps(content)))


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('l.json', '{"a": ["cat"]', 'l.json is not valid JSON'),
        ('l.json', '["cat"]', 'must hold an object.*not a list'),
        ('l.json', '{"a": "cat"}', "image 'a': expected a list of class names, got 'cat'"),
        ('l.json', '{"a": [3]}', "image 'a': expected a list of class names"),
        ('l.json', '{"a": ["cat", " "]}', "image 'a': an empty class name"),
        ('l.json', '{"a": ["cat"], "a": ["dog"]}', "listed more than once: 'a'"),
        ('l.csv', '', "must begin with the line 'image,labels', got nothing"),
        ('l.csv', 'a,cat\n', "must begin with the line 'image,labels'"),
        ('l.csv', 'image,labels\na\n', 'row 2: expected an image and its classes'),
        ('l.csv', 'image,labels\na,cat,dog\n', "row 2: .* separated by ';'"),
        ('l.csv', 'image,labels\na,cat\na,dog\n', "row 3: 'a' is listed more than once"),
        ('l.csv', 'image,labels\na,cat;\n', "image 'a': an empty class name"),
        ('l.csv', 'image,labels\na,"cat\n', 'l.csv is not valid CSV'),
        ('l.npy', '', 'must be .json or .csv'),
    ],
)
def test_malformed_label_file(write, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_label_file(write(name, text))


def test_label_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.json does not exist.*label_file'):
        read_label_file(tmp_path / 'none.json')


def test_voc_annotation(write):
    path = write(
        'a.xml',
        '<annotation><object><name> cat</name><part><name>head</name>'
        '</part></object><object><name>dog</name></object></annotation>',
    )
    assert read_voc_annotation(path) == ['cat', 'dog']


@pytest.mark.parametrize(
    'text, message',
    [
        ('<annotation><object>', 'a.xml is not valid XML'),
        ('<annotation><object/></annotation>', 'a.xml: an object without a class name'),
    ],
)
def test_malformed_voc_annotation(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_voc_annotation(write('a.xml', text))


def test_label_indices():
    classes = ('cat', 'dog', 'traffic light')
    assert label_indices(['dog', 'cat', 'dog'], classes, (), 'here') == [0, 1]
    assert label_indices(['dog', 'bird'], classes, ('bird',), 'here') == [1]
    assert label_indices([], classes, (), 'here') == []
    with pytest.raises(
        ValueError, match="here: unknown class 'trafic light'; did you mean 'traffic light'"
    ):
        label_indices(['trafic light'], classes, (), 'here')
    with pytest.raises(ValueError, match="unknown class 'background'; the classes are"):
        label_indices(['background'], classes, (), 'here')


@pytest.mark.parametrize(
    'images, twice',
    [
        ([dict(id=1, file_name='x/a.jpg'), dict(id=2, file_name='y/a.jpg')], "'a'"),
        ([dict(id=1, file_name='a.jpg'), dict(id=1, file_name='b.jpg')], '1'),
    ],
)
def test_coco_images_of_one_name(write, images, twice):
    """The labels of the one would be taken for those of both."""
    content = dict(images=images, annotations=[], categories=[])
    with pytest.raises(ValueError, match=f'i.json: images are listed more .* {twice}$'):
        read_label_file(write('i.json', json.dumps(content)))


# Python 3.10 neither writes nor reads a CSV file with a NUL
UNFIT = ';' if sys.version_info >= (3, 11) else ';\0'
WORDS = st.text(st.characters(codec='utf-8', exclude_characters=UNFIT), min_size=1).filter(
    lambda text: text == text.strip()
)
FILES = st.dictionaries(WORDS, st.lists(WORDS, max_size=3), max_size=5)


def read_back(name, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return read_label_file(path)


@given(FILES, st.booleans(), st.sampled_from(('', '\ufeff')))
def test_any_json_comes_back(labels, ascii_only, mark):
    text = mark + json.dumps(labels, ensure_ascii=ascii_only)
    if set(labels) >= {'images', 'annotations', 'categories'}:
        return  # COCO instances
    assert read_back('l.json', text.encode()) == labels


@given(FILES, st.sampled_from((csv.excel, csv.unix_dialect)), st.sampled_from(('', ' ')))
def test_any_csv_comes_back(labels, dialect, space):
    text = io.StringIO(newline='')
    rows = csv.writer(text, dialect)
    rows.writerow(['image', 'labels'])
    for image_id, names in labels.items():
        rows.writerow([image_id, f';{space}'.join(names)])
    assert read_back('l.csv', text.getvalue().encode()) == labels


@given(
    st.dictionaries(st.integers(0, 99), WORDS, min_size=1, max_size=5),
    st.dictionaries(st.integers(), st.sets(st.integers(0, 4)), max_size=5),
    st.randoms(use_true_random=False),
)
def test_any_coco_instances_come_back(classes, images, random):
    ids = sorted(classes)
    annotations = [
        dict(image_id=image_id, category_id=ids[number % len(ids)])
        for image_id, numbers in images.items()
        for number in [*numbers, *numbers]
    ]
    random.shuffle(annotations)
    content = dict(
        images=[dict(id=i, file_name=f'folder/{i}.jpg') for i in images],
        annotations=annotations,
        categories=[dict(id=i, name=name) for i, name in classes.items()],
    )
    expected = {
        str(image_id): [classes[i] for i in sorted({ids[n % len(ids)] for n in numbers})]
        for image_id, numbers in images.items()
    }
    assert read_back('i.json', json.dumps(content).encode()) == expected


@given(st.lists(WORDS, min_size=1, unique=True), st.data())
@example(['b', 'a', 'c'], None)
def test_indices_name_the_classes(classes, data):
    names = (
        ['c', 'b', 'b'] if data is None else data.draw(st.lists(st.sampled_from(classes)))
    )
    indices = label_indices(names, classes, (), 'here')
    assert indices == sorted(set(indices))
    assert {classes[index] for index in indices} == set(names)
