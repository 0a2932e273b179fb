"""PASCAL VOC 2012: labels and splits, beside the numbers that the field publishes."""

from collections import Counter
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from prettytable import PrettyTable

from ...progress import with_progress
from ..image_labels import ImageLabels, label_indices, name_few, read_voc_annotation
from ..voc import VOCImageLevelDataset
from .split_lists import read_split

CLASSES = tuple(VOCImageLevelDataset.METAINFO['classes'][1:])
EXPECTED_IMAGES = dict(train=1464, train_aug=10582, val=1449, test=1456)
"""Images of each split."""
EXPECTED_TRAIN_AUG = dict(
    aeroplane=590,
    bicycle=504,
    bird=705,
    boat=468,
    bottle=714,
    bus=393,
    car=1150,
    cat=1005,
    chair=1228,
    cow=267,
    diningtable=613,
    dog=1188,
    horse=445,
    motorbike=492,
    person=4155,
    pottedplant=522,
    sheep=300,
    sofa=649,
    train=503,
    tvmonitor=567,
)
"""Images of ``train_aug`` that show each class, by the label file that the field uses."""
AUGMENTED_MASKS = 'SegmentationClassAug'
SPLIT_FOLDER = 'ImageSets/Segmentation'


class AugmentedSplit(NamedTuple):
    """The images that VOC and SBD have for training."""

    ids: List[str]
    """Sorted; none of them is a validation image of VOC."""
    source: str
    """Where they were found."""


def check_layout(root: Path) -> None:
    """Raise FileNotFoundError if this is not the folder of VOC 2012."""
    needed = (
        'JPEGImages',
        'Annotations',
        f'{SPLIT_FOLDER}/train.txt',
        f'{SPLIT_FOLDER}/val.txt',
    )
    missing = [name for name in needed if not (root / name).exists()]
    if missing:
        inside = [
            path for path in ('VOC2012', 'VOCdevkit/VOC2012') if (root / path).is_dir()
        ]
        raise FileNotFoundError(
            f'{root} lacks {", ".join(missing)}: '
            + (
                f'did you mean {root / inside[0]}?'
                if inside
                else 'give the folder VOC2012 that VOCtrainval_11-May-2012.tar unpacks'
            )
        )


def read_xml_labels(folder: Path, with_difficult: bool = True) -> ImageLabels:
    """Image labels of all annotations ``ID.xml`` of a folder.

    Args:
        folder: VOC's ``Annotations``.
        with_difficult: Whether objects that VOC calls difficult count, as they do in the
            label files of the field.

    Returns:
        Class names of each image, in the order of VOC's classes.

    Raises:
        ValueError: If an annotation is malformed, or names another class.
    """
    labels: ImageLabels = {}
    for path in with_progress(sorted(folder.glob('*.xml')), 'annotations'):
        names = read_voc_annotation(path, with_difficult)
        indices = label_indices(names, CLASSES, (), str(path))
        labels[path.stem] = [CLASSES[index] for index in indices]
    return labels


def find_augmented_split(
    root: Path, sbd_ids: Sequence[str] = ()
) -> Optional[AugmentedSplit]:
    """The augmented training images: those of VOC and of SBD without VOC's for validation.

    Args:
        root: The folder of VOC 2012.
        sbd_ids: The images of SBD. Empty: those of the folder ``SegmentationClassAug``,
            else of the list ``train_aug.txt``, which MMSegmentation calls
            ``trainaug.txt``.

    Returns:
        None if nothing names them.
    """
    splits = root / SPLIT_FOLDER
    source, ids = 'SBD', list(sbd_ids)
    if not ids:
        source = AUGMENTED_MASKS
        ids = [path.stem for path in (root / AUGMENTED_MASKS).glob('*.png')]
    for name in ('train_aug.txt', 'trainaug.txt'):
        if not ids and (splits / name).is_file():
            source, ids = name, read_split(splits / name)
    if not ids:
        return None
    train, val = (set(read_split(splits / f'{name}.txt')) for name in ('train', 'val'))
    return AugmentedSplit(sorted((train | set(ids)) - val), source)


def read_splits(root: Path) -> Dict[str, List[str]]:
    """Image IDs of the splits whose files are there, by name."""
    files = {name: root / SPLIT_FOLDER / f'{name}.txt' for name in EXPECTED_IMAGES}
    return {name: read_split(path) for name, path in files.items() if path.is_file()}


def splits_report(splits: Mapping[str, Sequence[str]]) -> str:
    """A line per split: its number of images, and what differs from the expected one."""
    lines = []
    for name, expected in EXPECTED_IMAGES.items():
        if name not in splits:
            lines.append(f'{name}: no {name}.txt ({expected} images expected)')
            continue
        count = len(splits[name])
        remark = (
            'as expected'
            if count == expected
            else f'{expected} expected: {count - expected:+}'
        )
        lines.append(f'{name}: {count} images, {remark}')
    return '\n'.join(lines)


def classes_report(labels: ImageLabels, splits: Mapping[str, Sequence[str]]) -> str:
    """A row per class: images of each split that show it, and the expected number."""
    names = [name for name in ('train', 'train_aug', 'val') if name in splits]
    counts = {
        name: Counter(label for i in splits[name] for label in labels.get(i, ()))
        for name in names
    }
    with_expected = 'train_aug' in counts
    table = PrettyTable(
        ['images that show', *names, *(('expected', 'difference') if with_expected else ())]
    )
    table.align = 'r'
    table.align['images that show'] = 'l'
    for label in CLASSES:
        row = [label, *(counts[name][label] for name in names)]
        if with_expected:
            expected = EXPECTED_TRAIN_AUG[label]
            difference = counts['train_aug'][label] - expected
            row += [expected, f'{difference:+}' if difference else '']
        table.add_row(row)
    return table.get_string()


def find_problems(
    root: Path, labels: ImageLabels, splits: Mapping[str, Sequence[str]]
) -> List[str]:
    """What would end a training or a validation: images or labels that are missing."""
    images = {path.stem for path in (root / 'JPEGImages').iterdir()}
    problems = []
    for name, ids in splits.items():
        missing = [image_id for image_id in ids if image_id not in images]
        if missing:
            problems.append(
                f'{len(missing)} of {len(ids)} images of {name} are not in '
                f'{root / "JPEGImages"}: {name_few(missing)}'
            )
        unlabelled = [i for i in ids if i not in labels] if name != 'test' else []
        if unlabelled:
            problems.append(
                f'{len(unlabelled)} of {len(ids)} images of {name} have no labels: '
                f'{name_few(unlabelled)}'
            )
    return problems


def compare_labels(labels: ImageLabels, others: ImageLabels) -> str:
    """How the labels of a file differ from those of the annotations, in one sentence."""
    common = labels.keys() & others.keys()
    different = sorted(i for i in common if set(labels[i]) != set(others[i]))
    if not different:
        return f'the labels of all {len(common)} images are those of their annotations'
    return (
        f'the labels of {len(different)} of {len(common)} images differ from their '
        f'annotations: {name_few(different)}'
    )
