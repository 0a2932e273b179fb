"""A config turned into one that scores all protocols, and a run of it."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config

import mask_run
from localization_samples import MAPS
from mmseg_more.engine.hooks.utils import find_hooks
from mmseg_more.evaluation import LocalizationMetric, use_protocols
from mmseg_more.models.structures import MASK_SCALES, SEG_SCALES


def test_config_of_the_shapes(repo_root):
    cfg = Config.fromfile(repo_root / 'configs/more/more_vit-t_shapes.py')
    use_protocols(cfg, 'figures.json', num_workers=3)
    (metric,) = cfg.test_evaluator
    assert metric == dict(
        type='ProtocolMetric',
        split='ImageSets/Segmentation/val.txt of data/shapes',
        num_workers=3,
        out_json='figures.json',
        bkg=cfg.val_evaluator.bkg,
    )
    (hook,) = find_hooks(cfg, 'LocalizationHook')
    assert cfg.custom_hooks == [hook] and 'localization' not in cfg.default_hooks
    assert find_hooks(cfg, 'IterationHook', 'SanityCheckHook')
    assert hook['maps'] == MAPS and hook['cam_scales'] == (1.0,)
    assert hook['ms_scales'] == MASK_SCALES
    assert hook['seg_scales'] == SEG_SCALES


def test_other_metrics_stay_and_a_missing_hook_comes():
    cfg = Config(
        dict(
            model=dict(type='MoRe'),
            test_dataloader=dict(dataset=dict(type='A', data_root='b')),
            test_evaluator=[
                dict(type='IoUMetric'),
                dict(type=LocalizationMetric, ignore_index=254),
            ],
        )
    )
    use_protocols(cfg)
    assert [m['type'] for m in cfg.test_evaluator] == ['ProtocolMetric', 'IoUMetric']
    assert cfg.test_evaluator[0]['ignore_index'] == 254
    assert cfg.test_evaluator[0]['split'] == 'all images of b'
    assert [h['type'] for h in cfg.custom_hooks] == ['LocalizationHook']


def test_what_cannot_be_scored_by_protocols():
    with pytest.raises(ValueError, match='--tta'):
        use_protocols(Config(dict(model=dict(type='MoReTTAModel'))))
    with pytest.raises(ValueError, match='test_dataloader'):
        use_protocols(Config(dict(model=dict(type='MoRe'))))


@pytest.mark.slow
def test_a_run_of_the_model(tmp_path):
    images = {name: mask_run.IMAGES[name] for name in 'abc'}
    data = mask_run.make_data(tmp_path / 'data', images)
    generator = np.random.default_rng(0)
    for name, (size, _) in images.items():
        path = data / 'masks' / f'{name}.png'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), generator.integers(0, 3, size, np.uint8))
    cfg = mask_run.config(data)
    cfg.test_dataloader.dataset.test_mode = True
    cfg.test_dataloader.dataset.data_prefix.seg_map_path = 'masks'
    cfg.work_dir = str(tmp_path / 'work')
    use_protocols(
        cfg,
        str(tmp_path / 'protocols.json'),
        num_workers=1,
        ms_scales=(1.0, 0.5),
        seg_scales=(1.0,),
    )
    mask_run.run(cfg)
    written = json.loads((tmp_path / 'protocols.json').read_text())
    for name in ('cam', 'lam', 'fused', 'seg'):
        for protocol in ('raw', 'ms', 'ms_crf'):
            assert 0 < written[f'{name}/{protocol}/mIoU'] < 100
    settings = written['settings']
    assert settings['num_images'] == 3
    assert settings['image_size'] == '17..30x20..32'
    assert settings['network_size'] == '48x48'
    assert settings['ms_scales'] == [1.0, 0.5]
