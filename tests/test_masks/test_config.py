import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from golden import ROOT
from mmseg_more.engine.hooks.utils import find_hooks
from mmseg_more.engine.launch import use_tta
from mmseg_more.masks import mask_dataloader, use_pseudo_labels
from mmseg_more.masks.voc_export import use_voc_export


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def config(name='more_vit-t_shapes'):
    return Config.fromfile(ROOT / f'configs/more/{name}.py')


def types(parts):
    return [part['type'] for part in parts]


def test_test_split():
    cfg = config()
    use_pseudo_labels(cfg, 'masks', crf=True, policy='predicted', num_workers=3)
    assert cfg.test_evaluator == []
    assert types(cfg.custom_hooks) == ['PseudoLabelHook']
    assert find_hooks(cfg, 'IterationHook', 'SanityCheckHook')
    assert not find_hooks(cfg, 'LocalizationHook')
    hook = cfg.custom_hooks[-1]
    assert hook == dict(
        type='PseudoLabelHook',
        out_dir='masks',
        bkg=cfg.val_evaluator.bkg.lam,
        crf=True,
        policy='predicted',
        num_workers=3,
    )
    assert cfg.test_cfg.type == 'MaskLoop'
    loader = cfg.test_dataloader
    assert loader.batch_size == 1
    assert loader.sampler == dict(type='DefaultSampler', shuffle=False)
    assert types(loader.dataset.pipeline) == [
        'LoadImageFromFile',
        'Resize',
        'PackImageLevelInputs',
    ]
    assert loader.dataset.test_mode and not loader.dataset.with_masks
    # nothing of the validation is touched
    assert types(cfg.val_dataloader.dataset.pipeline)[2] == 'LoadAnnotations'


def test_train_split_is_neither_shuffled_nor_augmented():
    cfg = config()
    test = cfg.test_dataloader.dataset.pipeline.copy()
    use_pseudo_labels(cfg, 'masks', split='train')
    loader = cfg.test_dataloader
    assert loader.dataset.ann_file == 'ImageSets/Segmentation/train.txt'
    assert loader.dataset.label_file == 'image_labels.json'
    assert loader.dataset.pipeline[1] == test[1]
    assert types(loader.dataset.pipeline) == [
        'LoadImageFromFile',
        'Resize',
        'PackImageLevelInputs',
    ]
    assert loader.batch_size == 1 and not loader.sampler.shuffle
    assert cfg.train_dataloader.dataset.pipeline != loader.dataset.pipeline
    assert 'test_mode' not in cfg.train_dataloader.dataset


def test_threshold_of_the_evaluator():
    cfg = config()
    use_pseudo_labels(cfg, 'masks', source='cam')
    assert cfg.custom_hooks[-1].bkg == cfg.val_evaluator.bkg.cam != 0.5
    cfg = config()
    use_pseudo_labels(cfg, 'masks', source='cam', bkg=0.3)
    assert cfg.custom_hooks[-1].bkg == 0.3
    cfg = config('more_vit-b_voc')  # its evaluator has the default for all
    use_pseudo_labels(cfg, 'masks')
    assert cfg.custom_hooks[-1].bkg is None
    cfg = config()
    cfg.test_evaluator = [dict(type='LocalizationMetric', bkg=0.45)]
    use_pseudo_labels(cfg, 'masks')
    assert cfg.custom_hooks[-1].bkg == 0.45


def test_labels_are_needed_where_they_decide():
    def dataset(name, with_labels):
        cfg = config(name)
        before = cfg.test_dataloader.copy()
        dataset = mask_dataloader(cfg, 'test', with_labels)['dataset']
        assert cfg.test_dataloader == before
        return dataset

    assert dataset('more_vit-t_shapes', True).label_file == 'image_labels.json'
    without = dataset('more_vit-t_shapes', False)
    assert without.label_file == '' and without.data_prefix == dict(xml_path=None)
    # images of COCO without any class are left out
    assert dataset('more_vit-b_coco', False).label_file


def test_a_second_call_replaces_the_first():
    cfg = config('more_vit-b_voc')
    use_pseudo_labels(cfg, 'masks')
    use_voc_export(cfg, 'out.tgz')
    assert types(cfg.custom_hooks).count('PseudoLabelHook') == 0
    use_pseudo_labels(cfg, 'others')
    assert types(cfg.custom_hooks)[-1] == 'PseudoLabelHook'
    assert types(cfg.custom_hooks).count('VOCExportHook') == 0


def test_views_of_test_time_augmentation_read_no_mask():
    cfg = config()
    use_tta(cfg)
    use_voc_export(cfg, 'out.tgz')
    load, views = cfg.test_dataloader.dataset.pipeline
    assert load.type == 'LoadImageFromFile'
    assert [types(branch) for branch in views.transforms] == [
        ['Resize'] * 3,
        ['RandomFlip'] * 2,
        ['PackImageLevelInputs'],
    ]


def test_repeated_and_concatenated_data():
    cfg = config()
    plain = cfg.train_dataloader.dataset.copy()
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=plain)
    assert mask_dataloader(cfg, 'train', True)['dataset']['ann_file'] == plain.ann_file
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[plain, plain])
    with pytest.raises(ValueError, match='train split is a ConcatDataset: name one'):
        mask_dataloader(cfg, 'train', True)


def test_wrong_arguments():
    cfg = config()
    with pytest.raises(ValueError, match="split must be one of.*got 'trainval'"):
        use_pseudo_labels(cfg, 'masks', split='trainval')
    with pytest.raises(ValueError, match='source must be one of'):
        use_pseudo_labels(cfg, 'masks', source='attention')
    cfg.train_dataloader = None
    with pytest.raises(ValueError, match='masks of the train split need'):
        use_pseudo_labels(cfg, 'masks', split='train')
    with pytest.raises(ValueError, match='ends in one of'):
        use_voc_export(cfg, 'out')
    assert find_hooks(cfg, 'LocalizationHook')  # nothing half done


def test_config_without_a_test_loop():
    cfg = config()
    cfg.test_cfg = None
    cfg.custom_hooks = None
    use_pseudo_labels(cfg, 'masks')
    assert cfg.test_cfg.type == 'MaskLoop' and len(cfg.custom_hooks) == 1
