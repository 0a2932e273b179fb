import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_more.datasets import VOCImageLevelDataset
from scripts import load_script

from mmseg.datasets import PascalVOCDataset

FILE = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_shapes.py'
SMALL = ['--num-train', '40', '--num-val', '10']


@pytest.fixture(scope='module')
def tool():
    return load_script(FILE)


@pytest.fixture(scope='module')
def shapes(tool, tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'shapes'
    assert tool.main([str(root), *SMALL]) == 0
    return root


def contents(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


def ids(root, split):
    return (root / 'ImageSets' / 'Segmentation' / f'{split}.txt').read_text().split()


def mask(root, image_id):
    return Image.open(root / 'SegmentationClass' / f'{image_id}.png')


def test_layout(shapes):
    assert len(ids(shapes, 'train')) == 40 and len(ids(shapes, 'val')) == 10
    every = ids(shapes, 'train') + ids(shapes, 'val')
    for folder, suffix in (
        ('JPEGImages', 'jpg'),
        ('SegmentationClass', 'png'),
        ('Annotations', 'xml'),
    ):
        assert sorted(p.name for p in (shapes / folder).iterdir()) == sorted(
            f'{i}.{suffix}' for i in every
        )
    assert Image.open(shapes / 'JPEGImages' / f'{every[0]}.jpg').size == (96, 96)
    palette = np.array(PascalVOCDataset.METAINFO['palette']).flatten()
    assert mask(shapes, every[0]).mode == 'P'
    assert mask(shapes, every[0]).getpalette()[:63] == palette.tolist()


def test_labels_are_the_classes_of_the_mask(shapes, tool):
    labels = json.loads((shapes / 'image_labels.json').read_text())
    seen = set()
    for image_id, names in labels.items():
        values = set(np.unique(mask(shapes, image_id)).tolist()) - {0}
        assert names and names == [tool.DEMO.classes[v - 1] for v in sorted(values)]
        root = ElementTree.parse(shapes / 'Annotations' / f'{image_id}.xml').getroot()
        assert {o.findtext('name') for o in root.iterfind('object')} == set(names)
        seen |= values
    assert len(labels) == 50 and seen == set(range(1, 7))
    assert (shapes / 'classes.txt').read_text().split() == list(tool.DEMO.classes)


def test_objects_are_large_enough(shapes):
    for image_id in ids(shapes, 'train'):
        values, counts = np.unique(mask(shapes, image_id), return_counts=True)
        assert counts[values > 0].min() >= 150


def test_same_arguments_same_bytes(tool, shapes, tmp_path):
    tool.main([str(tmp_path / 'again'), *SMALL])
    assert contents(tmp_path / 'again') == contents(shapes)


def test_images_depend_on_seed_split_and_number_alone(tool, shapes, tmp_path):
    tool.main([str(tmp_path / 'fewer'), '--num-train', '2', '--num-val', '2'])
    tool.main(
        [str(tmp_path / 'other'), '--num-train', '2', '--num-val', '2', '--seed', '1']
    )

    def images(root, split):
        return [
            (root / 'JPEGImages' / f'{i}.jpg').read_bytes() for i in ids(root, split)[:2]
        ]

    for split in ('train', 'val'):
        assert images(tmp_path / 'fewer', split) == images(shapes, split)
        assert not set(images(tmp_path / 'other', split)) & set(images(shapes, split))
    assert len({*images(shapes, 'train'), *images(shapes, 'val')}) == 4


def test_second_run_changes_nothing(tool, shapes, capsys):
    before = contents(shapes)
    assert tool.main([str(shapes), *SMALL]) == 0
    assert 'already there' in capsys.readouterr().out
    assert contents(shapes) == before


def test_other_content_is_refused(tool, shapes, tmp_path, mistake_of):
    assert 'other settings' in mistake_of(tool.main, [str(shapes), *SMALL, '--seed', '5'])
    (tmp_path / 'mine.txt').write_text('mine')
    assert 'not empty' in mistake_of(tool.main, [str(tmp_path), *SMALL])
    assert 'is a file' in mistake_of(tool.main, [str(tmp_path / 'mine.txt'), *SMALL])
    assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']


def test_a_failure_leaves_nothing(tool, tmp_path, monkeypatch):

    def fail(*_):
        raise RuntimeError('the disk is full')

    monkeypatch.setattr(tool, 'annotation_xml', fail)
    with pytest.raises(RuntimeError):
        tool.main([str(tmp_path / 'out'), *SMALL])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'arguments',
    [['--num-train', '0'], ['--seed', '-1'], ['--size', '20'], ['--num-vall', '3']],
)
def test_bad_arguments(tool, tmp_path, arguments):
    with pytest.raises(SystemExit):
        tool.main([str(tmp_path / 'out'), *arguments])
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('label_file', ['image_labels.json', ''])
def test_readable_as_voc(shapes, tool, label_file):
    init_default_scope('mmseg')
    dataset = VOCImageLevelDataset(
        data_root=str(shapes),
        ann_file='ImageSets/Segmentation/val.txt',
        label_file=label_file,
        test_mode=True,
        metainfo=dict(classes=('background', *tool.DEMO.classes)),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackImageLevelInputs'),
        ],
    )
    assert len(dataset) == 10
    for item in dataset:
        sample = item['data_samples']
        present = [v - 1 for v in sample.gt_sem_seg.data.unique().tolist() if v > 0]
        assert sample.gt_label.tolist() == present


def test_natural_scenes(tool, tmp_path):
    root = tmp_path / 'natural'
    tool.main([str(root), '--scenes', 'natural', '--num-train', '120', '--num-val', '1'])
    labels = json.loads((root / 'image_labels.json').read_text())
    assert Image.open(root / 'JPEGImages' / 'train_00000.jpg').size == (224, 224)
    assert (root / 'classes.txt').read_text().split() == list(tool.NATURAL.classes)
    assert len(tool.NATURAL.classes) == 20
    counts = dict.fromkeys(tool.NATURAL.classes, 0)
    for names in labels.values():
        for name in names:
            counts[name] += 1
    first, last = list(counts.values())[:5], list(counts.values())[13:18]
    assert sum(first) > 2 * sum(last) > 0  # a long tail
    boats = [names for names in labels.values() if 'boat' in names]
    with_water = sum('water' in names for names in boats)
    assert len(boats) > with_water > 0.6 * len(boats)  # hardly one without the other
    assert counts['water'] > with_water


def test_natural_scenes_are_other_data(tool, tmp_path, mistake_of):
    arguments = ['--num-train', '1', '--num-val', '1', '--size', '96']
    tool.main([str(tmp_path / 'data'), *arguments])
    assert 'other settings' in mistake_of(
        tool.main, [str(tmp_path / 'data'), *arguments, '--scenes', 'natural']
    )


@pytest.mark.parametrize(
    'scenes, out, expected',
    [
        ('demo', 'data/shapes', 'configs/more/more_vit-t_shapes.py'),
        (
            'natural',
            'my shapes',
            'configs/more/more_vit-t8_1xb16-1400iters_natural-shapes-112x112.py '
            "--cfg-options 'train_dataloader.dataset.data_root=my shapes' "
            "'val_dataloader.dataset.data_root=my shapes' "
            "'test_dataloader.dataset.data_root=my shapes'",
        ),
    ],
)
def test_what_comes_next(tool, scenes, out, expected):
    assert tool.next_line(scenes, Path(out)) == f'next: python tools/train.py {expected}'
    assert (FILE.parents[2] / tool.TRAININGS[scenes][0]).is_file()


def test_a_bar_while_it_draws(tool, tmp_path, capsys):
    tool.main([str(tmp_path / 'shapes'), '--num-train', '2', '--num-val', '1'])
    said = capsys.readouterr()
    assert 'drawing train' in said.err and 'drawing val' in said.err
    assert said.out.splitlines()[-1].startswith('next: python tools/train.py ')
