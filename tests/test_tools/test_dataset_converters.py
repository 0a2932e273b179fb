"""tools/dataset_converters/voc.py and coco14.py: what they write is what trainings read."""

import json
import subprocess
import sys

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from field_datasets import (
    COCO_SIZE,
    VOC_LABELS,
    coco_name,
    cut_off,
    write_coco,
    write_sbd,
    write_voc,
)
from golden import ROOT
from mmseg_more.datasets import COCO14ImageLevelDataset, VOCImageLevelDataset
from scripts import load_script

FOLDER = ROOT / 'tools' / 'dataset_converters'
WITH_MASKS = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackImageLevelInputs'),
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


class TestVOC:
    @pytest.fixture
    def root(self, tmp_path):
        return write_voc(tmp_path / 'VOC2012')

    @pytest.fixture
    def run(self, root, capsys):
        """Run the tool in this process; exit status and lines of its output."""
        main = load_script(FOLDER / 'voc.py').main

        def run(*arguments):
            status = main([str(root), '--workers', '0', *map(str, arguments)])
            return status, capsys.readouterr().out.splitlines()

        return run

    def labels(self, root):
        return json.loads((root / 'image_labels.json').read_text())

    def test_labels_of_the_annotations(self, root, run):
        status, lines = run()
        assert status == 0
        expected = {
            image_id: sorted({name for name, _ in objects})
            for image_id, objects in VOC_LABELS.items()
        }
        assert self.labels(root) == expected
        assert 'val: 1 images, 1449 expected: -1448' in lines
        assert lines[-2].startswith('no train_aug: give SBD by --sbd')
        assert lines[-1].startswith(
            'next: python tools/train.py configs/more/more_vit-b_voc'
        )
        assert lines[-1].endswith('.ann_file=ImageSets/Segmentation/train.txt')
        assert 'label_file' not in lines[-1]  # the config reads the annotations itself

    def test_without_difficult_objects(self, root, run):
        _, lines = run('--no-difficult')
        assert self.labels(root)['2007_000002'] == ['cat']
        assert 'train_dataloader.dataset.label_file=image_labels.json' in lines[-1]

    def test_augmented_split_of_sbd(self, root, run, tmp_path):
        sbd = write_sbd(tmp_path / 'SBD')
        status, lines = run('--sbd', sbd)
        assert status == 0
        assert f'{root}/SegmentationClassAug: 4 masks' in lines
        dataset = VOCImageLevelDataset(
            data_root=str(root),
            ann_file='ImageSets/Segmentation/train_aug.txt',
            label_file='image_labels.json',
            data_prefix=dict(seg_map_path='SegmentationClassAug'),
            pipeline=WITH_MASKS,
            with_masks=True,
        )
        ids = ['2007_000001', '2007_000003', '2008_000005']
        assert [info['img_id'] for info in map(dataset.get_data_info, range(3))] == ids
        labels = [item['data_samples'].gt_label.tolist() for item in dataset]
        masks = [item['data_samples'].gt_sem_seg.data.unique().tolist() for item in dataset]
        assert labels == [[7], [14], [19]] and masks == [[8], [15], [20]]
        # a second run finds all of it
        _, again = run()
        assert any('already there, 3 images (of SegmentationClassAug)' in x for x in again)
        assert 'ann_file' not in again[-1]

    def test_label_file_of_the_field(self, root, run, tmp_path):
        vector = np.eye(20, dtype=np.float32)[7]
        np.save(tmp_path / 'cls_labels.npy', dict.fromkeys(VOC_LABELS, vector))
        status, lines = run('--labels', tmp_path / 'cls_labels.npy')
        assert status == 0
        assert 'labels of 4 of 5 images differ from their annotations' in lines[0]
        assert self.labels(root) == dict.fromkeys(VOC_LABELS, ['cat'])
        dataset = VOCImageLevelDataset(
            data_root=str(root), label_file='image_labels.json', pipeline=[]
        )
        assert dataset.get_data_info(0)['gt_label'] == [7]

    def test_what_is_missing_is_said(self, root, run):
        (root / 'JPEGImages' / '2007_000002.jpg').unlink()
        status, lines = run()
        assert status == 1
        assert lines[-2].startswith('missing: 1 of 1 images of val are not in')
        assert lines[-1].startswith('next: complete what is missing')

    def test_mistakes(self, root, run, tmp_path, mistake_of):
        (tmp_path / 'cls_labels.npy').write_bytes(b'x')
        for arguments, message in (
            (['--labels', tmp_path / 'cls_labels.npy'], 'is no .npy file'),
            (['--labels', tmp_path / 'none.npy'], 'none.npy: No such file'),
            (['--sbd', root], 'holds no masks of SBD'),
            (['--workers', '-1'], 'expected a whole number of at least 0'),
        ):
            assert message in mistake_of(run, *arguments)
        assert not (root / 'image_labels.json').exists()


class TestCOCO:
    @pytest.fixture
    def instances(self, tmp_path):
        return write_coco(tmp_path / 'coco2014')

    @pytest.fixture
    def root(self, instances):
        return instances.parent.parent

    @pytest.fixture
    def masks(self, root):
        return root / 'SegmentationClass' / 'val2014'

    @pytest.fixture
    def run(self, instances, masks, capsys):
        """Run the tool in this process; exit status and lines of its output."""
        main = load_script(FOLDER / 'coco14.py').main

        def run(*arguments, mask_dir=masks):
            paths = [str(instances), str(mask_dir)]
            status = main([*paths, '--workers', '0', *map(str, arguments)])
            return status, capsys.readouterr().out.splitlines()

        return run

    def test_masks_as_the_data_set_reads_them(self, root, run):
        status, lines = run()
        assert status == 0
        dataset = COCO14ImageLevelDataset(
            data_root=str(root),
            ann_file='val_part.txt',
            label_file='annotations/instances_val2014.json',
            data_prefix=dict(img_path='val2014', seg_map_path='SegmentationClass/val2014'),
            pipeline=WITH_MASKS,
            test_mode=True,
        )
        assert len(dataset) == 4  # the image without annotation is not in the list
        for item in dataset:
            sample = item['data_samples']
            assert sample.gt_sem_seg.shape == COCO_SIZE
            labels = set(sample.gt_label.tolist())
            drawn = set(sample.gt_sem_seg.data.unique().tolist()) - {0, 255}
            crowds = {2} if sample.img_id.endswith('42') else set()
            assert {value - 1 for value in drawn} == labels - crowds
        assert lines[-1] == (
            'next: python tools/test.py configs/more/more_vit-b_coco.py CHECKPOINT '
            f'--cfg-options test_dataloader.dataset.data_root={root}'
        )

    def test_lists_leave_out_what_cannot_be_read(self, root, run):
        path = root / 'val2014' / f'{coco_name(133)}.jpg'
        whole = path.read_bytes()
        cut_off(path)
        status, lines = run()
        assert status == 1
        (left_out,) = [line for line in lines if line.startswith('left out: ')]
        assert f'{path} is broken' in left_out
        assert lines[-1].startswith('next: replace these files')
        assert (root / 'val.txt').read_text().split() == [
            coco_name(number) for number in (42, 74, 136)
        ]
        path.write_bytes(whole)
        for name in ('val', 'val_part'):
            (root / f'{name}.txt').unlink()
        status, lines = run()
        assert status == 0 and '5 masks, 0 of them drawn now, 40504 expected' in lines
        assert f'{root / "val.txt"}: written, 4 images' in lines

    def test_crowds_of_the_other_custom(self, run, masks, tmp_path, mistake_of):
        run()
        assert 'other settings (crowd)' in mistake_of(run, '--crowd', 'class')
        status, lines = run('--crowd', 'class', mask_dir=tmp_path / 'with_class')
        assert status == 0
        assert f'seg_map_path={tmp_path / "with_class"}' in lines[-1]
        path = tmp_path / 'with_class' / f'{coco_name(42)}.png'
        values = set(np.unique(Image.open(path)).tolist())
        assert values == {1, 3, 80}
        assert set(np.unique(Image.open(masks / path.name)).tolist()) == {1, 80, 255}

    def test_without_image_files(self, root, run, tmp_path):
        (root / 'val2014').rename(tmp_path / 'elsewhere')
        status, lines = run('--lists', tmp_path / 'lists')
        assert status == 0
        assert any('image files were not looked at' in line for line in lines)
        assert len((tmp_path / 'lists' / 'val.txt').read_text().split()) == 4
        _, lines = run('--images', tmp_path / 'elsewhere')
        assert any(line.startswith('1 gray images: kept') for line in lines)

    def test_mistakes(self, instances, masks, run, mistake_of):
        instances.write_text('{')
        assert 'instances_val2014.json is not valid JSON' in mistake_of(run)
        assert 'nowhere does not exist' in mistake_of(run, '--images', 'nowhere')
        instances.unlink()
        assert 'instances_val2014.json does not exist' in mistake_of(run)
        assert not masks.exists()


@pytest.mark.slow
def test_nothing_is_said_but_what_concerns_the_user(tmp_path):
    """No warnings of other packages, neither at the start nor from other processes."""
    voc, sbd = write_voc(tmp_path / 'VOC2012'), write_sbd(tmp_path / 'SBD')
    masks = tmp_path / 'coco' / 'masks'
    for bars, arguments in (
        (['annotations', 'SBD masks'], ['voc.py', voc, '--sbd', sbd]),
        (['annotations', 'masks'], ['coco14.py', write_coco(tmp_path / 'coco'), masks]),
    ):
        command = [sys.executable, FOLDER / arguments[0], *arguments[1:]]
        run = subprocess.run(
            [*command, '--workers', '2'], capture_output=True, text=True, cwd=ROOT
        )
        assert run.returncode == 0
        lines = run.stderr.splitlines()
        assert len(lines) == len(bars)
        assert all(line.startswith(bar) for line, bar in zip(lines, bars))
