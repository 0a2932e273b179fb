"""Corrected masks of a few training images: the file, the pipeline, the data set."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmseg_more.datasets import VOCImageLevelDataset
from mmseg_more.datasets.mask_file import read_mask_file
from mmseg_more.datasets.transforms import with_corrected_masks
from mmseg_more.files import palette_png

from mmseg.registry import TRANSFORMS

PETS = ('background', 'cat', 'dog')
PLAIN = [dict(type='LoadImageFromFile'), dict(type='PackImageLevelInputs')]
CONFIGS = ('voc12', 'coco14', 'shapes')


@pytest.fixture(autouse=True)
def _mmseg_scope():
    init_default_scope('mmseg')


def train_pipeline(repo_root, name, size=(32, 32)):
    """The training pipeline of a shipped data set, with small crops."""
    path = repo_root / f'configs/_base_/datasets/{name}_image_level.py'
    steps = Config.fromfile(path).train_pipeline
    for step in steps:
        for key in ('scale', 'crop_size'):
            if key in step:
                step[key] = size
    return steps


def pets_mask(**bands):
    """40x50 pixels, background, with rows of labels."""
    mask = np.zeros((40, 50), np.uint8)
    for rows, label in bands.items():
        first, last = map(int, rows[1:].split('_'))
        mask[first:last] = label
    return mask


def write_masks(folder, masks, classes=PETS):
    folder.mkdir(exist_ok=True)
    for name, mask in masks.items():
        (folder / f'{name}.png').write_bytes(palette_png(mask, [[0, 0, 0]]))
    content = dict(classes=classes, masks={name: f'{name}.png' for name in masks})
    path = folder / 'masks.json'
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def mask_file(tmp_path):
    """A mask of the image b, which shows a cat and a dog; images a and c have none."""
    mask = pets_mask(r0_5=255, r5_20=1, r25_30=2)
    return write_masks(tmp_path / 'corrected', dict(b=mask))


def pets(root, pipeline=PLAIN, **kwargs):
    return VOCImageLevelDataset(
        data_root=str(root), metainfo=dict(classes=PETS), pipeline=pipeline, **kwargs
    )


# -------------------------------------------------------------------------------- pipeline
@pytest.mark.parametrize('name', CONFIGS)
def test_the_mask_moves_with_the_image(repo_root, name):
    """An image that is its own mask stays so, whatever is drawn."""
    steps = with_corrected_masks(train_pipeline(repo_root, name))
    in_place = ('LoadImageFromFile', 'LoadCorrectedMask', 'RandomApply', 'RandomCutOut')
    moving = [step for step in steps if step['type'] not in in_place]
    for step in moving:
        if step['type'] in ('RandomRescale', 'RandomResizedCropWithMask'):
            step['interpolation'] = 'nearest'
    pipeline = Compose(moving)
    rng = np.random.default_rng(0)
    for seed in range(20):
        mask = rng.integers(1, 4, (24 + seed, 60 - seed)).astype(np.uint8)
        results = dict(
            img=mask[..., None].repeat(3, 2),
            gt_seg_map=mask,
            seg_fields=['gt_seg_map'],
            corrected_mask='a.png',
            num_classes=3,
            img_shape=mask.shape,
        )
        np.random.seed(seed)
        packed = pipeline(results)
        image, corrected = packed['inputs'][0], packed['data_samples'].corrected_sem_seg
        assert corrected.data.shape == (1, 32, 32) and corrected.data.dtype == torch.int64
        # COCO's crops are padded with black, which nobody has labelled
        padded = corrected.data[0] == 255
        assert padded.any() == bool((image == 0).any())
        assert (corrected.data[0] == torch.where(image == 0, 255, image)).all()
        assert (image > 0).any()


@pytest.mark.parametrize('name', CONFIGS)
def test_images_and_random_numbers_are_those_without_masks(
    repo_root, voc_root, mask_file, name
):
    steps = train_pipeline(repo_root, name)
    without, with_masks = pets(voc_root, steps), pets(voc_root, steps, mask_file=mask_file)
    for index in range(3):
        samples = []
        for dataset in (without, with_masks):
            np.random.seed(index)
            torch.manual_seed(index)
            samples.append((dataset[index], np.random.random(), torch.rand(1)))
        (plain, *numbers), (masked, *same_numbers) = samples
        assert numbers == same_numbers
        assert torch.equal(plain['inputs'], masked['inputs'])
        assert plain['data_samples'].metainfo == masked['data_samples'].metainfo
        assert 'corrected_sem_seg' not in plain['data_samples']
        assert ('corrected_sem_seg' in masked['data_samples']) == (index == 1)
        assert 'gt_sem_seg' not in masked['data_samples']


@pytest.mark.parametrize('kind', ['RandomResizedCrop', 'RandomCrop'])
def test_thousands_of_crops(kind):
    """As many as a training takes: what each leaves behind would add up."""
    options = dict(scale=2) if kind == 'RandomResizedCrop' else dict(crop_size=2)
    crop = TRANSFORMS.build(dict(type=f'{kind}WithMask', **options))
    image, mask = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    before = dict(vars(crop))
    for _ in range(3000):
        crop(dict(img=image, gt_seg_map=mask))
    assert vars(crop) == before


def test_without_a_mask_file_nothing_is_touched(voc_root):
    dataset = pets(voc_root)
    assert [type(step).__name__ for step in dataset.pipeline.transforms] == [
        step['type'] for step in PLAIN
    ]
    assert all('corrected_mask' not in dataset.get_data_info(i) for i in range(3))


def test_crops_of_mmpretrain_in_any_step(repo_root):
    crop = dict(type='mmpretrain.RandomResizedCrop', scale=8)
    jitter = dict(type='mmpretrain.ColorJitter', brightness=0.3)
    steps = [
        dict(type='LoadAnyImage'),
        dict(type='RandomApply', transforms=[jitter, crop]),
        dict(type='RandomChoice', transforms=[[crop], [dict(type='Resize', scale=(8, 8))]]),
        TRANSFORMS.build(dict(type='RandomFlip', prob=0.5)),
        dict(type='PackImageLevelInputs'),
    ]
    taken = with_corrected_masks(steps)
    assert taken[1] == dict(type='LoadCorrectedMask')
    assert taken[2]['transforms'][0] == jitter
    for step in (taken[2]['transforms'][1], taken[3]['transforms'][0][0]):
        assert step['scale'] == 8 and step['type'] == 'RandomResizedCropWithMask'
    assert steps[1]['transforms'][1]['type'] == 'mmpretrain.RandomResizedCrop'


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        (dict(type='mmpretrain.CenterCrop', crop_size=8), None),
        (dict(type='mmpretrain.ResizeEdge', scale=8), 'ResizeEdge of mmpretrain moves'),
        (dict(type='mmpretrain.Rotate', angle=8), 'Rotate of mmpretrain moves'),
        (dict(type='NoSuchTransform'), "names no transform 'NoSuchTransform'"),
    ],
)
def test_transforms_that_leave_the_mask_behind(step, message):
    steps = [PLAIN[0], step, PLAIN[1]]
    if message is None:  # MMCV's own, under another scope
        assert len(with_corrected_masks(steps)) == 4
        return
    with pytest.raises(ValueError, match=message):
        with_corrected_masks(steps)


@pytest.mark.parametrize('steps', [PLAIN[:1], PLAIN[1:], []])
def test_pipelines_that_load_or_pack_nothing(steps):
    with pytest.raises(ValueError, match='needs a pipeline that begins with Load'):
        with_corrected_masks(steps)


class Halve(BaseTransform):
    """A transform of a user's, which forgets the mask."""

    def transform(self, results):
        results['img'] = results['img'][::2, ::2]
        results['img_shape'] = results['img'].shape[:2]
        return results


def test_a_transform_that_forgets_the_mask(voc_root, mask_file):
    dataset = pets(voc_root, [PLAIN[0], Halve(), PLAIN[1]], mask_file=mask_file)
    assert dataset[0]['inputs'].shape == (3, 20, 25)
    with pytest.raises(
        ValueError, match=r'b.png has shape .* at the end .*b.jpg \(20, 25\): a transform'
    ):
        dataset[1]


# -------------------------------------------------------------------------------- data set
def test_an_image_has_its_mask(voc_root, mask_file):
    dataset = pets(voc_root, mask_file=mask_file)
    mask = dataset[1]['data_samples'].corrected_sem_seg.data
    expected = pets_mask(r0_5=255, r5_20=1, r25_30=2)  # no label map of VOC is applied
    np.testing.assert_array_equal(mask[0].numpy(), expected)


def test_masks_may_be_named_with_suffix_and_lie_anywhere(voc_root, mask_file, tmp_path):
    path = tmp_path / 'other.json'
    absolute = str(tmp_path / 'corrected' / 'b.png')
    path.write_text(json.dumps(dict(classes=PETS, masks={'b.jpg': absolute})))
    assert read_mask_file(str(path)).masks == {'b.jpg': absolute}
    dataset = pets(voc_root, mask_file=str(path))
    assert 'corrected_sem_seg' in dataset[1]['data_samples']


def test_not_in_test_mode(voc_root):
    dataset = pets(voc_root, mask_file='nowhere', test_mode=True, with_masks=False)
    assert 'corrected_mask' not in dataset.get_data_info(1)


def test_masks_of_images_beyond_the_split(voc_root, mask_file):
    split = voc_root / 'ImageSets' / 'Segmentation' / 'train.txt'
    split.write_text('a\nc\n')
    dataset = pets(voc_root, mask_file=mask_file)
    assert all('corrected_mask' not in dataset.get_data_info(i) for i in range(2))


@pytest.mark.parametrize(
    ('masks', 'message'),
    [
        (dict(b=pets_mask(r5_20=1)), r"'b': the mask shows 'cat', the .* say 'cat', 'dog'"),
        (dict(a=pets_mask(r5_9=1, r9_12=2)), r"shows 'cat', 'dog', the .* say 'cat': corr"),
        (dict(c=pets_mask(r5_9=1, r9_12=255)), r"shows 'cat', the image .* say no class"),
        (dict(b=pets_mask(r5_9=3)), r'b.png holds the value 3; 0 is background, 1..2 are'),
        (dict(b=pets_mask(r5_9=254)), r'b.png holds the value 254; 0 is background'),
        (dict(a=pets_mask(r5_9=1)[1:]), r"'a': the mask has 39x50 pixels, the image 40x50"),
        (dict(d=pets_mask()), r"masks of images that are not in .*JPEGImages: 'd'"),
    ],
)
def test_masks_that_do_not_fit(voc_root, tmp_path, masks, message):
    path = write_masks(tmp_path / 'corrected', masks)
    with pytest.raises(ValueError, match=message) as raised:
        pets(voc_root, mask_file=path)
    assert '\n' not in str(raised.value)


def test_a_class_may_lie_where_nobody_has_labelled(voc_root, tmp_path):
    path = write_masks(tmp_path / 'corrected', dict(b=pets_mask(r5_20=1, r20_40=255)))
    assert 'corrected_sem_seg' in pets(voc_root, mask_file=path)[1]['data_samples']


def test_files_that_do_not_fit(voc_root, tmp_path, mask_file):
    def refused(message, error=ValueError, **kwargs):
        with pytest.raises(error, match=message):
            pets(voc_root, **{'mask_file': mask_file, **kwargs})

    refused('mask file nowhere does not exist', FileNotFoundError, mask_file='nowhere')
    refused('`with_masks` and `mask_file` both', with_masks=True)
    path = tmp_path / 'corrected' / 'masks.json'
    for content, message in (
        ('{', 'is not valid JSON'),
        ('[]', 'must hold an object'),
        ('{"classes": ["background"], "masks": {}}', 'must hold an object'),
        ('{"classes": ["background"], "masks": {"b": 1}}', 'must hold an object'),
        (
            '{"classes": ["background", "dog", "cat"], "masks": {"b": "b.png"}}',
            "the 3 classes 'background', 'dog', 'cat', this data set has 3",
        ),
        (
            json.dumps(dict(classes=PETS, masks={'b': 'b.png', 'b.jpg': 'b.png'})),
            'twice for an image, with and without suffix',
        ),
    ):
        path.write_text(content)
        refused(message)
    write_masks(tmp_path / 'corrected', dict(b=pets_mask(r5_9=1, r9_12=2)))
    (tmp_path / 'corrected' / 'b.png').write_bytes(b'\x89PNG')
    refused('b.png is no whole PNG')
    (tmp_path / 'corrected' / 'b.png').unlink()
    refused('the corrected mask .*b.png does not exist', FileNotFoundError)


def test_a_broken_image_is_left_out_as_without_masks(voc_root, mask_file):
    (voc_root / 'JPEGImages' / 'b.jpg').write_bytes(b'')
    dataset = pets(voc_root, mask_file=mask_file, max_broken=0.4)
    assert dataset[1]['data_samples'].img_id != 'b'
    assert [path[-5:] for path in dataset.broken_images()] == ['b.jpg']


@pytest.mark.slow
@pytest.mark.parametrize('num_workers', [0, 2])
def test_batches_of_images_with_and_without(voc_root, mask_file, num_workers, repo_root):
    dataset = pets(voc_root, train_pipeline(repo_root, 'voc12'), mask_file=mask_file)
    loader = Runner.build_dataloader(
        dict(
            batch_size=3,
            num_workers=num_workers,
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
    )
    (batch,) = loader
    have = ['corrected_sem_seg' in sample for sample in batch['data_samples']]
    assert have == [False, True, False]


def test_palettes_are_no_colours(voc_root, tmp_path):
    """OpenCV would read the colours of a palette, not its indices."""
    mask = pets_mask(r5_20=1, r25_30=2)
    path = write_masks(tmp_path / 'corrected', dict(b=mask))
    colors = [[9, 9, 9], [200, 0, 0], [0, 200, 0]]
    (tmp_path / 'corrected' / 'b.png').write_bytes(palette_png(mask, colors))
    assert cv2.imread(str(tmp_path / 'corrected' / 'b.png'), -1).max() == 200
    sample = pets(voc_root, mask_file=path)[1]['data_samples']
    np.testing.assert_array_equal(sample.corrected_sem_seg.data[0].numpy(), mask)
