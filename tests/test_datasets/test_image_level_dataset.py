import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from mmseg_more.datasets import (
    COCO14ImageLevelDataset,
    ImageLevelDataset,
    VOCImageLevelDataset,
)

from mmseg.registry import DATASETS

VOC = tuple(VOCImageLevelDataset.METAINFO['classes'])
CAT, DOG = 7, 11  # of VOC's 20 classes, without background
TRAIN = [dict(type='LoadImageFromFile'), dict(type='PackImageLevelInputs')]
VAL = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackImageLevelInputs'),
]
CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
PETS = dict(classes=('background', 'cat', 'dog'))


@pytest.fixture(autouse=True)
def _mmseg_scope():
    init_default_scope('mmseg')


def voc(root, **kwargs):
    return VOCImageLevelDataset(data_root=str(root), pipeline=TRAIN, **kwargs)


def split_file(root, split='train'):
    return root / 'ImageSets' / 'Segmentation' / f'{split}.txt'


class TestVOC:
    @pytest.mark.parametrize('label_file', ['', 'labels.json'])
    def test_labels(self, voc_root, label_file):
        dataset = voc(voc_root, label_file=label_file)
        assert [dataset.get_data_info(i)['gt_label'] for i in range(3)] == [
            [CAT],
            [CAT, DOG],
            [],
        ]
        sample = dataset[1]['data_samples']
        assert sample.img_id == 'b'
        assert sample.gt_label.tolist() == [CAT, DOG]
        assert sample.gt_score.dtype == torch.float32
        assert sample.gt_score.nonzero().flatten().tolist() == [CAT, DOG]
        assert sample.gt_score.shape == (20,)

    def test_image_without_class_is_kept(self, voc_root):
        dataset = voc(voc_root)
        assert dataset[2]['data_samples'].gt_score.tolist() == [0.0] * 20
        assert dataset[2]['data_samples'].gt_label.shape == (0,)

    def test_count_of_images_without_class(self, voc_root, monkeypatch):
        messages = []
        monkeypatch.setattr(
            'mmseg_more.datasets.image_level_dataset.print_log',
            lambda message, **_: messages.append(message),
        )
        assert len(voc(voc_root)) == 3
        assert messages == [
            "1 of 3 images have no class at all ('c'): kept, with labels of zero everywhere"
        ]
        assert len(voc(voc_root, skip_unlabeled=True)) == 2

    def test_training_never_looks_at_masks(self, voc_root, monkeypatch):
        shutil.rmtree(voc_root / 'SegmentationClass')
        touched = []
        for name in ('open', 'stat', 'scandir', 'listdir', 'access'):
            original = getattr(os, name)

            def spy(path, *args, _original=original, **kwargs):
                touched.append(str(path))
                return _original(path, *args, **kwargs)

            monkeypatch.setattr(os, name, spy)
        dataset = voc(voc_root)
        sample = dataset[0]['data_samples']
        assert 'gt_sem_seg' not in sample and 'seg_map_path' not in sample
        assert touched, 'the spy saw nothing'
        assert not [path for path in touched if 'SegmentationClass' in path]

    def test_masks_in_test_mode(self, voc_root):
        dataset = VOCImageLevelDataset(
            data_root=str(voc_root), test_mode=True, pipeline=VAL
        )
        mask = dataset[1]['data_samples'].gt_sem_seg.data
        assert mask.shape == (1, 40, 50) and mask.dtype == torch.int64
        assert mask.unique().tolist() == [0, CAT + 1, DOG + 1, 255]

    def test_suffixes_with_capitals(self, voc_root):
        for path in (voc_root / 'SegmentationClass').glob('*.png'):
            path.rename(path.with_name(f'{path.stem}_labelIds.png'))
        for path in (voc_root / 'JPEGImages').glob('*.jpg'):
            path.rename(path.with_suffix('.JPG'))
        dataset = VOCImageLevelDataset(
            data_root=str(voc_root),
            test_mode=True,
            pipeline=VAL,
            img_suffix='.JPG',
            seg_map_suffix='_labelIds.png',
        )
        assert dataset[1]['data_samples'].gt_sem_seg.data.unique().numel() == 4

    def test_some_classes(self, voc_root):
        dataset = VOCImageLevelDataset(
            data_root=str(voc_root),
            test_mode=True,
            pipeline=VAL,
            metainfo=dict(classes=('background', 'dog')),
            mask_numbering='dataset',
        )
        sample = dataset[1]['data_samples']
        assert sample.gt_label.tolist() == [0]  # the cat is left out
        assert sample.gt_sem_seg.data.unique().tolist() == [0, 1, 255]
        assert dataset.metainfo['palette'] == [[0, 0, 0], [64, 0, 128]]

    @pytest.mark.parametrize('classes', [VOC[:1] + VOC[:0:-1], VOC[:13], PETS['classes']])
    def test_masks_count_classes_of_metainfo_or_of_voc(self, voc_root, classes):
        """The same file, read as VOC's masks and as those of a user's own numbering."""
        mask = np.zeros((40, 50), np.uint8)
        mask[:20], mask[20:25] = len(classes) - 1, 255
        cv2.imwrite(str(voc_root / 'SegmentationClass' / 'b.png'), mask)

        def values(numbering):
            dataset = VOCImageLevelDataset(
                data_root=str(voc_root),
                test_mode=True,
                pipeline=VAL,
                metainfo=dict(classes=classes),
                mask_numbering=numbering,
            )
            return dataset[1]['data_samples'].gt_sem_seg.data.unique().tolist()

        assert values('metainfo') == [0, len(classes) - 1, 255]
        original = VOC[len(classes) - 1]
        mapped = classes.index(original) if original in classes else 255
        assert values('dataset') == sorted({0, mapped, 255})
        with pytest.raises(
            ValueError,
            match="the masks may count either.*all its 20 classes.*'dataset'`.*'metainfo'`",
        ):
            values(None)

    def test_masks_need_no_numbering_where_only_one_is_possible(self, voc_root):
        other = dict(classes=('background', 'cat', 'unicorn', 'dog'))
        for metainfo, numbering in ((None, None), (dict(classes=VOC), None), (other, None)):
            dataset = VOCImageLevelDataset(
                data_root=str(voc_root),
                test_mode=True,
                pipeline=TRAIN,
                metainfo=metainfo,
                mask_numbering=numbering,
            )
            assert dataset.label_map is None
        with pytest.raises(ValueError, match='needs a choice of the 21 classes of VOC'):
            voc(voc_root, metainfo=other, mask_numbering='dataset')
        with pytest.raises(ValueError, match="must be one of .* or None, got 'voc'"):
            voc(voc_root, mask_numbering='voc')

    def test_other_order_keeps_the_colours_of_the_classes(self, voc_root):
        colors = VOCImageLevelDataset.METAINFO['palette']
        dataset = voc(voc_root, metainfo=dict(classes=VOC[:1] + VOC[:0:-1]))
        assert dataset.metainfo['palette'] == colors[:1] + colors[:0:-1]

    def test_other_classes_in_this_layout(self, voc_root):
        dataset = voc(voc_root, metainfo=PETS)
        assert dataset[1]['data_samples'].gt_score.tolist() == [1.0, 1.0]
        assert dataset.metainfo['label_map'] == {
            **dict.fromkeys(range(21), 255),
            0: 0,
            CAT + 1: 1,
            DOG + 1: 2,
        }
        other = dict(classes=('background', 'unicorn', 'dog', 'cat'))
        dataset = voc(voc_root, metainfo=other)
        assert dataset[1]['data_samples'].gt_label.tolist() == [1, 2]
        assert dataset.metainfo['label_map'] is None
        assert dataset.metainfo['palette'] == [
            [0, 0, 0],
            [128, 0, 0],
            [0, 128, 0],
            [128, 128, 0],
        ]

    def test_unlabelled_test_split(self, voc_root):
        dataset = voc(
            voc_root, test_mode=True, with_masks=False, data_prefix=dict(xml_path=None)
        )
        assert 'gt_score' not in dataset[0]['data_samples']

    def test_registered(self, voc_root):
        for name in (
            'ImageLevelDataset',
            'VOCImageLevelDataset',
            'COCO14ImageLevelDataset',
        ):
            assert DATASETS.get(name).__name__ == name


class TestFolder:
    def build(self, root, **kwargs):
        kwargs = {'label_file': 'labels.json', 'metainfo': PETS, **kwargs}
        return ImageLevelDataset(
            data_root=str(root),
            pipeline=TRAIN,
            data_prefix=dict(img_path='JPEGImages'),
            **kwargs,
        )

    def test_every_image_of_a_folder(self, voc_root):
        image = np.zeros((8, 9, 3), np.uint8)
        (voc_root / 'JPEGImages' / 'more').mkdir()
        cv2.imwrite(str(voc_root / 'JPEGImages' / 'more' / 'd.PNG'), image)
        labels = {'a.jpg': ['cat'], 'b': [], 'c': ['dog'], 'more/d': ['dog']}
        (voc_root / 'labels.json').write_text(json.dumps(labels))
        dataset = self.build(voc_root)
        assert [item['img_id'] for item in map(dataset.get_data_info, range(4))] == [
            'a',
            'b',
            'c',
            'more/d',
        ]
        assert dataset[0]['data_samples'].gt_label.tolist() == [0]
        assert dataset[3]['inputs'].shape == (3, 8, 9)

    @pytest.mark.parametrize('suffix', ['.webp', '.bmp', '.TIFF', '.gif'])
    def test_images_of_other_types(self, voc_root, suffix):
        path = voc_root / 'JPEGImages' / 'b.jpg'
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
        assert [self.build(voc_root).get_data_info(i)['img_id'] for i in range(3)] == [
            'a',
            'b',
            'c',
        ]

    def test_what_is_left_out_is_named(self, voc_root, monkeypatch):
        messages = []
        monkeypatch.setattr(
            'mmseg_more.datasets.image_level_dataset.print_log',
            lambda message, **_: messages.append(message),
        )
        (voc_root / 'JPEGImages' / 'd.heic').touch()
        labels = {'a': ['cat'], 'b': ['dog'], 'c': ['dog'], 'x.jpg': ['cat'], 'y': ['cap']}
        (voc_root / 'labels.json').write_text(json.dumps(labels))
        # of the images that are there, those of another split need no mention
        (voc_root / 'train.txt').write_text('a\nb\n')
        self.build(voc_root, ann_file='train.txt')
        other_file, other_labels = messages
        assert other_file.startswith('1 files in') and other_file.endswith("'d.heic'")
        assert 'has labels of 2 images that are not in' in other_labels
        assert other_labels.endswith("'x', 'y'; their classes 'cap' are not known")

    def test_csv(self, voc_root):
        (voc_root / 'labels.csv').write_text('image,labels\na,cat\nb,dog;cat\nc.jpg,\n')
        dataset = self.build(voc_root, label_file='labels.csv')
        assert dataset[1]['data_samples'].gt_score.tolist() == [1.0, 1.0]

    def test_labels_from_voc_annotations(self, voc_root):
        dataset = ImageLevelDataset(
            data_root=str(voc_root),
            pipeline=TRAIN,
            metainfo=PETS,
            data_prefix=dict(img_path='JPEGImages', xml_path='Annotations'),
        )
        assert [s['data_samples'].gt_label.tolist() for s in dataset] == [[0], [0, 1], []]

    def test_two_files_for_one_image(self, voc_root):
        shutil.copy(voc_root / 'JPEGImages' / 'a.jpg', voc_root / 'JPEGImages' / 'a.png')
        with pytest.raises(ValueError, match="two files for 'a'"):
            self.build(voc_root)

    def test_no_image(self, voc_root):
        shutil.rmtree(voc_root / 'JPEGImages')
        with pytest.raises(FileNotFoundError, match='JPEGImages.*does not exist'):
            self.build(voc_root)
        (voc_root / 'JPEGImages').mkdir()
        with pytest.raises(ValueError, match='no image .*below .*JPEGImages'):
            self.build(voc_root)

    def test_training_without_any_labels(self, voc_root):
        with pytest.raises(ValueError, match='training needs image labels'):
            self.build(voc_root, label_file='')

    @pytest.mark.parametrize('classes', [('cat', 'dog'), ('background',), ()])
    def test_background_comes_first(self, voc_root, classes):
        with pytest.raises(ValueError, match='must begin with "background"'):
            self.build(voc_root, metainfo=dict(classes=classes))

    @pytest.mark.parametrize('count', [254, 255, 300])
    def test_as_many_classes_as_a_mask_tells_apart(self, voc_root, count):
        names = [f'class {index}' for index in range(count)]
        (voc_root / 'labels.json').write_text(
            json.dumps({'a': names[-1:], 'b': [], 'c': []})
        )
        metainfo = dict(classes=('background', *names))
        if count <= 254:
            sample = self.build(voc_root, metainfo=metainfo)[0]['data_samples']
            assert sample.gt_label.tolist() == [count - 1]
        else:
            with pytest.raises(ValueError, match=f'names {count} classes .*254 apart'):
                self.build(voc_root, metainfo=metainfo)

    def test_masks_count_the_classes_given(self, voc_root):
        """VOC's names mean nothing special in a folder that is not in VOC's layout."""
        mask = np.arange(3, dtype=np.uint8)[:, None].repeat(50, 1).repeat(14, 0)[:40]
        for name in 'abc':
            cv2.imwrite(str(voc_root / 'SegmentationClass' / f'{name}.png'), mask)
        dataset = ImageLevelDataset(
            data_root=str(voc_root),
            pipeline=VAL,
            test_mode=True,
            label_file='labels.json',
            metainfo=PETS,
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        )
        truth = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
        np.testing.assert_array_equal(truth, mask)

    def test_class_named_twice(self, voc_root):
        with pytest.raises(ValueError, match="names 'cat' twice"):
            self.build(voc_root, metainfo=dict(classes=('background', 'cat', 'cat')))


class TestBadInput:
    def test_split_names_missing_images(self, voc_root):
        split_file(voc_root).write_text('a\nx1\nx2\nx3\nx4\nb\n')
        with pytest.raises(
            FileNotFoundError,
            match='lists 4 of 6 images that do not '
            "exist in .*JPEGImages: 'x1', 'x2', 'x3' and 1 more",
        ):
            voc(voc_root)

    def test_empty_split(self, voc_root):
        split_file(voc_root).write_text('\n \n')
        with pytest.raises(ValueError, match='train.txt lists no image'):
            voc(voc_root)

    def test_split_is_missing(self, voc_root):
        with pytest.raises(FileNotFoundError, match='none.txt does not exist.*ann_file'):
            voc(voc_root, ann_file='none.txt')

    def test_image_twice_in_a_split(self, voc_root):
        split_file(voc_root).write_text('a\nb\na.jpg\n')
        with pytest.raises(ValueError, match="lists 1 images more than once: 'a'"):
            voc(voc_root)

    def test_label_file_has_an_image_with_and_without_suffix(self, voc_root):
        labels = {'a': ['cat'], 'b': ['dog'], 'a.jpg': ['dog'], 'c': []}
        (voc_root / 'labels.json').write_text(json.dumps(labels))
        with pytest.raises(ValueError, match="lists 1 images .* suffix: 'a'; keep one"):
            voc(voc_root, label_file='labels.json')

    def test_label_file_misses_an_image(self, voc_root):
        (voc_root / 'labels.json').write_text('{"a": ["cat"], "b": []}')
        with pytest.raises(
            ValueError, match="labels.json has no labels for 1 of 3 images: 'c'; add them"
        ):
            voc(voc_root, label_file='labels.json')

    def test_annotation_is_missing(self, voc_root):
        (voc_root / 'Annotations' / 'b.xml').unlink()
        with pytest.raises(ValueError, match='Annotations has no labels for 1 of 3'):
            voc(voc_root)

    def test_unknown_class(self, voc_root):
        (voc_root / 'labels.json').write_text('{"a": ["catt"], "b": [], "c": []}')
        with pytest.raises(
            ValueError,
            match="labels.json, image 'a': unknown class 'catt'; did you mean 'cat'",
        ):
            voc(voc_root, label_file='labels.json')

    def test_mask_is_missing(self, voc_root):
        (voc_root / 'SegmentationClass' / 'b.png').unlink()
        with pytest.raises(
            FileNotFoundError,
            match="1 of 3 images have no mask.*'b'; add them, or set `with_masks=False`",
        ):
            voc(voc_root, test_mode=True)

    @pytest.mark.parametrize('content', [b'', b'not an image', b'\xff\xd8\xff\xe0'])
    def test_image_does_not_decode(self, voc_root, content):
        (voc_root / 'JPEGImages' / 'b.jpg').write_bytes(content)
        dataset = voc(voc_root)
        dataset[0]
        with pytest.raises(
            ValueError,
            match=rf'b.jpg \({len(content)} bytes\) does not '
            'decode as an image; replace the file',
        ):
            dataset[1]

    def test_mask_does_not_decode(self, voc_root):
        (voc_root / 'SegmentationClass' / 'b.png').write_bytes(b'no')
        dataset = VOCImageLevelDataset(
            data_root=str(voc_root), test_mode=True, pipeline=VAL
        )
        with pytest.raises(ValueError, match=r'b.png \(2 bytes\) does not decode'):
            dataset[1]

    def test_other_failures_are_not_blamed_on_the_files(self, voc_root):
        dataset = VOCImageLevelDataset(
            data_root=str(voc_root),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
        )
        with pytest.raises(KeyError, match='seg_map_path'):
            dataset[0]

    def test_mask_values_beyond_the_classes(self, voc_root):
        path = voc_root / 'SegmentationClass' / 'a.png'
        cv2.imwrite(
            str(path),
            np.array([[0, 21, 90, 255]], np.uint8).repeat(40, 0).repeat(13, 1)[:, :50],
        )
        dataset = VOCImageLevelDataset(
            data_root=str(voc_root), test_mode=True, pipeline=VAL
        )
        with pytest.raises(
            ValueError,
            match=r'a.png holds the values \[21, 90\]; 0 is '
            r'background, 1\.\.20 are the classes',
        ):
            dataset[0]

    @pytest.mark.parametrize('shape', [(40, 49), (40, 50, 3)])
    def test_mask_of_another_shape(self, voc_root, shape):
        path = voc_root / 'SegmentationClass' / 'a.png'
        cv2.imwrite(str(path), np.zeros(shape, np.uint8))
        dataset = VOCImageLevelDataset(
            data_root=str(voc_root), test_mode=True, pipeline=VAL
        )
        with pytest.raises(ValueError, match=r'a.png has shape .*a.jpg \(40, 50\)'):
            dataset[0]

    @pytest.mark.parametrize(
        'pixel, expected',
        [
            (np.uint8(9), (9, 9, 9)),  # gray
            (np.array([1, 2, 3, 0], np.uint8), (1, 2, 3)),  # alpha is dropped, not applied
            (np.array([256, 512, 1024], np.uint16), (1, 2, 4)),  # 16 bit: the high byte
            (np.uint16(2560), (10, 10, 10)),
        ],
    )
    def test_unusual_images_become_bgr(self, voc_root, pixel, expected):
        (voc_root / 'JPEGImages' / 'a.jpg').unlink()
        image = np.broadcast_to(pixel, (40, 50) + pixel.shape).copy()
        cv2.imwrite(str(voc_root / 'JPEGImages' / 'a.png'), image)
        inputs = voc(voc_root)[0]['inputs']
        assert inputs.dtype == torch.uint8 and inputs.shape == (3, 40, 50)
        assert tuple(inputs[:, 0, 0].tolist()) == expected


class TestCOCO:
    @pytest.fixture
    def coco_root(self, tmp_path):
        for folder in ('val2014', 'masks', 'annotations'):
            (tmp_path / folder).mkdir()
        images = []
        for number in (42, 73, 99):
            name = f'COCO_val2014_{number:012d}.jpg'
            images.append(dict(id=number, file_name=name))
            cv2.imwrite(str(tmp_path / 'val2014' / name), np.zeros((10, 12, 3), np.uint8))
        for name in ('000000000042', 'COCO_val2014_000000000073'):
            cv2.imwrite(
                str(tmp_path / 'masks' / f'{name}.png'), np.full((10, 12), 80, np.uint8)
            )
        content = dict(
            images=images,
            annotations=[
                dict(image_id=42, category_id=90),
                dict(image_id=73, category_id=13),
            ],
            categories=[dict(id=90, name='toothbrush'), dict(id=13, name='stop sign')],
        )
        (tmp_path / 'annotations' / 'instances_val2014.json').write_text(
            json.dumps(content)
        )
        return tmp_path

    def build(self, root, **kwargs):
        return COCO14ImageLevelDataset(
            data_root=str(root),
            label_file='annotations/instances_val2014.json',
            data_prefix=dict(img_path='val2014', seg_map_path='masks'),
            **kwargs,
        )

    def test_classes(self, coco_root):
        classes = self.build(coco_root, pipeline=TRAIN).metainfo['classes']
        assert len(set(classes)) == 81
        # the first, the one before the first gap in the category ids, the last
        assert classes[1] == 'person' and classes[11] == 'fire hydrant'
        assert classes[80] == 'toothbrush'

    def test_only_images_of_some_class(self, coco_root):
        dataset = self.build(coco_root, test_mode=True, pipeline=VAL)
        samples = [item['data_samples'] for item in dataset]
        assert [s.img_id for s in samples] == ['000000000042', '000000000073']
        assert [s.gt_label.tolist() for s in samples] == [[79], [11]]
        assert samples[0].gt_sem_seg.data.unique().tolist() == [80]
        assert len(self.build(coco_root, pipeline=TRAIN, skip_unlabeled=False)) == 3

    @pytest.mark.parametrize(
        'line',
        [
            '73',
            '000000000073',
            'COCO_val2014_000000000073',
            'COCO_val2014_000000000073.jpg',
        ],
    )
    def test_split(self, coco_root, line):
        (coco_root / 'val_part.txt').write_text(line + '\n')
        dataset = self.build(coco_root, ann_file='val_part.txt', pipeline=TRAIN)
        assert dataset.get_data_info(0)['img_id'] == '000000000073' and len(dataset) == 1


def test_voc_config_trains_without_masks_and_validates_at_file_size(voc_root):
    shutil.copy(split_file(voc_root), split_file(voc_root, 'train_aug'))
    cfg = Config.fromfile(CONFIGS / 'voc12_image_level.py')
    cfg.merge_from_dict(
        {
            'train_dataloader.dataset.data_root': str(voc_root),
            'val_dataloader.dataset.data_root': str(voc_root),
        }
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.num_workers, loader.persistent_workers = 0, False
    val = next(iter(Runner.build_dataloader(cfg.val_dataloader, seed=0)))
    assert val['inputs'][0].shape == (3, 448, 448)
    assert val['data_samples'][0].gt_sem_seg.shape == (40, 50)
    assert val['data_samples'][0].ori_shape == (40, 50)
    shutil.rmtree(voc_root / 'SegmentationClass')
    train = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    assert [image.shape for image in train['inputs']] == [(3, 448, 448)] * 4
    assert all('gt_sem_seg' not in sample for sample in train['data_samples'])


def folder_of(tmp_path, names):
    """Images, a list and a label file that name them by their IDs."""
    for name in names:
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(path)
    ids = [name.rpartition('.')[0] for name in names]
    (tmp_path / 'list.txt').write_text('\n'.join(ids) + '\n', encoding='utf-8')
    labels = {image_id: [PETS['classes'][1 + i % 2]] for i, image_id in enumerate(ids)}
    (tmp_path / 'labels.json').write_text(json.dumps(labels), encoding='utf-8')
    return dict(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='photos'),
        ann_file='list.txt',
        label_file='labels.json',
        metainfo=PETS,
        pipeline=TRAIN,
    )


def test_names_that_hold_a_suffix_or_blanks(tmp_path):
    """What is an ID as it stands is that image, before a suffix or a blank is cut off."""
    names = ['a.tif.jpg', 'b.jpg.jpg', 'b.PNG.png', ' c.jpg', 'd .jpg', 'e\u2028f.jpg']
    dataset = ImageLevelDataset(**folder_of(tmp_path, names))
    found = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [Path(info['img_path']).name for info in found] == names
    assert [info['gt_label'] for info in found] == [[0], [1]] * 3
    arguments = folder_of(tmp_path, names)  # and now a list as people write it by hand
    (tmp_path / 'list.txt').write_bytes(b' a.tif.jpg \r\n\r\nb.jpg.jpg\r\n')
    dataset = ImageLevelDataset(**arguments)
    assert [dataset.get_data_info(i)['img_id'] for i in range(2)] == ['a.tif', 'b.jpg']


def test_a_link_to_a_folder_around_it(tmp_path):
    arguments = folder_of(tmp_path, ['a.jpg', 'deep/b.jpg'])
    (tmp_path / 'photos' / 'deep' / 'loop').symlink_to(tmp_path / 'photos')
    assert len(ImageLevelDataset(**arguments | dict(ann_file=''))) == 2


def test_a_folder_that_no_dataset_has(tmp_path):
    prefix = dict(img_path='photos', img_pth='other')
    with pytest.raises(ValueError, match=r"`data_prefix` names .*, got \['img_pth'\]"):
        ImageLevelDataset(**folder_of(tmp_path, ['a.jpg']) | dict(data_prefix=prefix))
