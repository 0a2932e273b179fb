import pytest

from field_datasets import write_voc
from mmseg_more.datasets.preparation.voc12 import (
    CLASSES,
    EXPECTED_TRAIN_AUG,
    check_layout,
    classes_report,
    compare_labels,
    find_augmented_split,
    find_problems,
    read_splits,
    read_xml_labels,
    splits_report,
)


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / 'VOCdevkit' / 'VOC2012')


def test_difficult_objects_count_or_not(root):
    assert read_xml_labels(root / 'Annotations') == {
        '2007_000001': ['cat'],
        '2007_000002': ['cat', 'dog'],  # in the order of the classes
        '2007_000003': ['person'],
        '2008_000004': [],
        '2008_000005': ['tvmonitor'],
    }
    without = read_xml_labels(root / 'Annotations', with_difficult=False)
    assert without['2007_000002'] == ['cat'] and without['2007_000003'] == []


def test_class_of_another_data_set(root):
    path = root / 'Annotations' / '2008_000004.xml'
    path.write_text('<annotation><object><name>tv</name></object></annotation>')
    with pytest.raises(ValueError, match="2008_000004.xml: unknown class 'tv'"):
        read_xml_labels(root / 'Annotations')


def test_augmented_split(root):
    assert find_augmented_split(root) is None
    splits = root / 'ImageSets' / 'Segmentation'
    # MMSegmentation's name; it may list validation images
    (splits / 'trainaug.txt').write_text('2007_000002\n2008_000005\n')
    expected = ['2007_000001', '2008_000005']
    assert find_augmented_split(root) == (expected, 'trainaug.txt')
    (splits / 'train_aug.txt').write_text('2007_000003\n')
    found = find_augmented_split(root)
    assert found == (['2007_000001', '2007_000003'], 'train_aug.txt')
    (root / 'SegmentationClassAug').mkdir()
    (root / 'SegmentationClassAug' / '2008_000005.png').touch()
    (root / 'SegmentationClassAug' / '2007_000002.png').touch()
    assert find_augmented_split(root) == (expected, 'SegmentationClassAug')
    assert find_augmented_split(root, ['2008_000004']) == (
        ['2007_000001', '2008_000004'],
        'SBD',
    )


def test_numbers_beside_the_expected_ones():
    splits = dict(
        train=[f'i{n}' for n in range(1464)],
        train_aug=[f'i{n}' for n in range(10583)],
        val=['v'],
    )
    assert splits_report(splits).splitlines() == [
        'train: 1464 images, as expected',
        'train_aug: 10583 images, 10582 expected: +1',
        'val: 1 images, 1449 expected: -1448',
        'test: no test.txt (1456 images expected)',
    ]
    labels = {f'i{n}': ['cow'] for n in range(267)}
    labels.update({f'i{n}': ['train', 'bus'] for n in range(267, 300)}, v=['cow'])
    table = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in classes_report(labels, splits).splitlines()
        if '|' in line
    ]
    assert table[0][1:] == ['train', 'train_aug', 'val', 'expected', 'difference']
    rows = {row[0]: row[1:] for row in table[1:]}
    assert list(rows) == list(CLASSES) == list(EXPECTED_TRAIN_AUG)
    assert rows['cow'] == ['267', '267', '1', '267', '']
    assert rows['bus'] == ['33', '33', '0', '393', '-360']
    without = classes_report(labels, dict(val=['v']))
    assert 'expected' not in without


def test_what_is_missing(root):
    labels = read_xml_labels(root / 'Annotations')
    splits = read_splits(root)
    assert find_problems(root, labels, splits) == []
    (root / 'JPEGImages' / '2007_000002.jpg').unlink()
    del labels['2007_000001']
    # the images of the test set have no annotations
    problems = find_problems(root, labels, dict(splits, test=['2007_000001']))
    assert len(problems) == 2
    assert problems[0] == "1 of 1 images of train have no labels: '2007_000001'"
    assert problems[1].startswith('1 of 1 images of val are not in')


def test_labels_of_two_sources():
    ours = {'a': ['cat', 'dog'], 'b': ['cat'], 'c': []}
    same = {'a': ['dog', 'cat'], 'b': ['cat'], 'd': ['dog']}
    assert compare_labels(ours, same).startswith('the labels of all 2 images')
    said = compare_labels(ours, dict(same, c=['cow']))
    assert said == "the labels of 1 of 3 images differ from their annotations: 'c'"


def test_another_folder(root, tmp_path):
    check_layout(root)
    for folder in (root.parent, root.parent.parent):
        with pytest.raises(FileNotFoundError, match=f'did you mean {root}'):
            check_layout(folder)
    (root / 'ImageSets' / 'Segmentation' / 'val.txt').unlink()
    with pytest.raises(FileNotFoundError, match='VOC2012 lacks ImageSets/.*/val.txt: give'):
        check_layout(root)
