"""The config of a user's own images."""

import shutil

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_more.datasets.own_data import (
    NETWORKS,
    ImageFacts,
    Survey,
    plan_config,
    write_config,
)
from mmseg_more.engine import launch
from mmseg_more.evaluation import use_protocols

from mmseg.registry import DATASETS


@pytest.fixture(autouse=True)
def _mmseg_scope():
    init_default_scope('mmseg')


def survey(folder, num_images=20, size=(480, 640)):
    """Cats, dogs and nothing; files where there is a folder."""
    labels = {f's/{i:03d}': [['cat'], ['dog'], []][i % 3] for i in range(num_images)}
    images = [ImageFacts(f'{image_id}.png', size, digest=image_id) for image_id in labels]
    for image_id in labels:
        path = folder / f'{image_id}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return Survey(str(folder), 'JSON', images, [], labels, [], [])


def load(config, folder):
    """As tools/train.py reads it, misspelled keys being errors."""
    *_, path = write_config(config, str(folder / 'mine.py'))
    return launch.load_config(path)


@pytest.mark.parametrize('network', NETWORKS)
def test_config_is_complete(tmp_path, network):
    config = plan_config(survey(tmp_path / 'photos'), network)
    cfg = load(config, tmp_path)
    assert cfg.model.num_classes == 2
    for name, ids in zip(('train', 'val', 'test'), (*config.split, config.split.val)):
        dataset = DATASETS.build(cfg[f'{name}_dataloader'].dataset)
        assert [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))] == ids
        assert dataset.metainfo['classes'] == ('background', 'cat', 'dog')
    assert len(config.split.val) == 4
    assert {step.type for step in cfg.val_dataloader.dataset.pipeline} == {
        'LoadAnyImage', 'Resize', 'PackImageLevelInputs'
    }  # fmt: skip
    assert [metric.type for metric in cfg.val_evaluator] == [
        'mmpretrain.MultiLabelMetric',
        'mmpretrain.AveragePrecision',
    ]
    assert cfg.default_hooks.checkpoint.save_best == 'health/score'
    assert cfg.default_hooks.health.type == 'HealthHook'
    launch.check_truth(cfg)


@pytest.mark.parametrize(
    'name', ["o'brien/mine.py", "it's.py", 'a "b"/say "x".py', "a'b'/c\".py"]
)
def test_quotes_in_a_path(tmp_path, name):
    """Of the config, the images and the weights; also after the folder has moved."""
    home = (tmp_path / name).parent
    config = plan_config(survey(home / "cat's" / 'photos'))
    write_config(config, str(tmp_path / name))
    (tmp_path / 'elsewhere').mkdir()
    for moved in (
        tmp_path / name,
        tmp_path / 'elsewhere' / "o'my" / (tmp_path / name).name,
    ):
        if not moved.exists():
            shutil.copytree(home, moved.parent, ignore=shutil.ignore_patterns('elsewhere'))
        cfg = Config.fromfile(moved)
        assert cfg.train_dataloader.dataset.ann_file == str(
            moved.with_suffix('') / 'train.txt'
        )
        assert len(DATASETS.build(cfg.train_dataloader.dataset)) == len(config.split.train)
        cfg.dump(tmp_path / 'dumped.py')
        assert Config.fromfile(tmp_path / 'dumped.py').image_folder == config.folder


@pytest.mark.parametrize('masks', [False, True])
def test_protocols_say_that_they_need_masks(tmp_path, masks):
    photos = survey(tmp_path / 'photos')
    folder = str(tmp_path / 'photos') if masks else None
    cfg = load(plan_config(photos, mask_folder=folder), tmp_path)
    use_protocols(cfg)
    if masks:
        return launch.check_truth(cfg)
    with pytest.raises(ValueError, match='ProtocolMetric compares with true masks'):
        launch.check_truth(cfg)


def test_k_and_crop_stand_once(tmp_path):
    path = tmp_path / 'mine.py'
    write_config(plan_config(survey(tmp_path / 'photos')), str(path))
    text = path.read_text()
    text = text.replace(
        "('background', 'cat', 'dog')", "('background', 'cat', 'dog', 'owl')"
    )
    path.write_text(text.replace('crop_size = (448, 448)', 'crop_size = (256, 256)'))
    cfg = launch.load_config(str(path))
    assert cfg.model.num_classes == 3
    assert all(
        len(cfg[f'{name}_dataloader'].dataset.metainfo.classes) == 4
        for name in ('train', 'val', 'test')
    )
    assert cfg.train_dataloader.dataset.pipeline[1].scale == (256, 256)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (256, 256)
    assert cfg.model.data_preprocessor['size'] == (256, 256)


@pytest.mark.parametrize(
    'network, side, crop',
    [
        ('vit-b', 2000, 448),
        ('vit-b', 463, 448),
        ('vit-b', 447, 432),  # a multiple of the patch
        ('vit-b', 100, 224),  # enlarged
        ('vit-t', 2000, 128),
        ('vit-t', 127, 120),
        ('vit-t', 64, 96),
    ],
)
def test_crop_fits_the_images(tmp_path, network, side, crop):
    config = plan_config(survey(tmp_path / 'photos', 3, (side + 50, side)), network)
    assert config.crop == crop and config.side == side
    for views in load(config, tmp_path).tta_pipeline[1].transforms[0]:
        assert views.scale[0] % config.patch == 0


@pytest.mark.parametrize(
    'network, images, iterations',
    [('vit-b', 20, 1000), ('vit-b', 500, 3900), ('vit-t', 20, 300), ('vit-t', 500, 900)],
)
def test_schedule_follows_the_number_of_images(tmp_path, network, images, iterations):
    # 400 of 500 are trained on: 20000 * sqrt(400 / 10582), 1400 * sqrt(400 / 1000)
    cfg = load(plan_config(survey(tmp_path / 'photos', images), network), tmp_path)
    base = launch.load_config(NETWORKS[network].model)
    assert cfg.train_cfg.max_iters == iterations
    factor = iterations / base.train_cfg.max_iters
    for name, loss in base.model.losses.items():
        expected = round(loss.get('begin', 0) * factor)
        assert cfg.model.losses[name].get('begin', 0) == expected
    assert cfg.model.pseudo_label.switch_iter == round(
        base.model.pseudo_label.switch_iter * factor
    )
    assert cfg.param_scheduler[0].warmup_iters == round(
        base.param_scheduler[0].warmup_iters * factor
    )
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
    assert iterations % cfg.train_cfg.val_interval == 0


@pytest.mark.parametrize('network', NETWORKS)
def test_thresholds_are_stated(tmp_path, network):
    write_config(plan_config(survey(tmp_path / 'photos'), network), str(tmp_path / 'a.py'))
    text = (tmp_path / 'a.py').read_text()
    base = launch.load_config(NETWORKS[network].model)
    for name in ('high', 'low', 'bkg', 'cre_high', 'cam_high', 'cam_low'):
        assert f'        {name}={base.model.pseudo_label[name]:g},\n' in text


def test_masks_of_some_images_are_validated_on(tmp_path):
    photos = survey(tmp_path / 'photos')
    masks = tmp_path / 'masks'
    for name in ('s/003.png', 's/004.PNG', 'elsewhere.png'):
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(masks / name)
    config = plan_config(photos, mask_folder=str(masks))
    assert config.split.val == ['s/003', 's/004'] and len(config.split.train) == 18
    cfg = load(config, tmp_path)
    assert cfg.val_evaluator.type == 'LocalizationMetric'
    assert cfg.default_hooks.checkpoint.save_best == 'seg/mIoU'
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert dataset[0]['data_samples'].gt_sem_seg.shape == (8, 8)
    assert any(step[0].type == 'LoadMask' for step in cfg.tta_pipeline[1].transforms)
    launch.check_truth(cfg)


def test_masks_of_all_images_are_drawn_from(tmp_path):
    photos = survey(tmp_path / 'photos')
    config = plan_config(photos, mask_folder=str(tmp_path / 'photos'))
    assert len(config.split.val) == 4 and len(config.split.train) == 16


@pytest.mark.parametrize(
    'options, error, message',
    [
        (
            dict(classes=['cat']),
            ValueError,
            "must name each class of the labels once: 'cat'",
        ),
        (dict(classes=['cat', 'dog', 'dog']), ValueError, 'must name each class'),
        (
            dict(mask_folder='none'),
            FileNotFoundError,
            'folder of masks none does not exist',
        ),
        (dict(mask_folder='.'), ValueError, 'has a mask .* of none of the images'),
        (dict(pretrained='x.pth'), FileNotFoundError, 'the weights x.pth do not exist'),
    ],
)
def test_what_does_not_fit(tmp_path, monkeypatch, options, error, message):
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    with pytest.raises(error, match=message):
        plan_config(survey(tmp_path / 'photos'), **options)


def test_order_of_the_classes_and_weights_to_start_from(tmp_path):
    (tmp_path / 'vit.pth').touch()
    config = plan_config(
        survey(tmp_path / 'photos'),
        classes=['dog', 'cat'],
        pretrained=str(tmp_path / 'vit.pth'),
    )
    cfg = load(config, tmp_path)
    assert cfg.classes == ('background', 'dog', 'cat')
    assert cfg.model.pretrained == str(tmp_path / 'vit.pth')


def test_images_of_one_name(tmp_path):
    photos = survey(tmp_path / 'photos')
    twice = [*photos.images, ImageFacts('s/000.jpg', (480, 640))]
    with pytest.raises(ValueError, match='s/000.png and s/000.jpg have one name'):
        plan_config(photos._replace(images=twice))


def test_names_that_no_list_can_hold(tmp_path):
    """caf\\xe9.png, as an old zip unpacks, in folders named after the classes."""
    photos = survey(tmp_path / 'photos')
    images = [*photos.images, ImageFacts('cat/caf\udce9.png', (480, 640), digest='x')]
    plan_config(photos._replace(images=images))  # without a label it is left out
    photos = photos._replace(
        images=images, labels={**photos.labels, 'cat/caf\udce9': ['cat']}
    )
    with pytest.raises(ValueError, match=r"names of 1 images .*rename 'cat/caf\\udce9'"):
        plan_config(photos)


def test_no_class(tmp_path):
    photos = survey(tmp_path / 'photos', 3)
    labels = {image_id: [] for image_id in photos.labels}
    with pytest.raises(ValueError, match='no image that can be read has a class'):
        plan_config(photos._replace(labels=labels))
