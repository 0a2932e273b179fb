"""A config turned into one that chooses thresholds, and a run of it."""

import json

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mask_run
from mmseg_more.engine.hooks.utils import find_hooks
from mmseg_more.evaluation import use_calibration
from mmseg_more.masks import Calibration, MapThreshold
from mmseg_more.spread import spread_indices

from mmseg.registry import DATASETS


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return mask_run.make_data(tmp_path_factory.mktemp('calibration') / 'data')


@pytest.mark.parametrize('content', ['', '{"a": ["cat"]}', 'id,labels\n', '[]'])
def test_no_other_file_is_overwritten(data, tmp_path, content):
    file = tmp_path / 'labels.json'
    file.write_text(content)
    with pytest.raises(ValueError, match='labels.json exists and would be overwritten'):
        use_calibration(mask_run.config(data), str(file))
    assert file.read_text() == content


def test_a_calibration_is_replaced(data, tmp_path):
    Calibration({'raw': {'cam': MapThreshold(0.2)}}).save(tmp_path / 'c.json')
    use_calibration(mask_run.config(data), str(tmp_path / 'c.json'))


def test_config(data, tmp_path):
    cfg = mask_run.config(data)
    use_calibration(cfg, str(tmp_path / 'c.json'), num_images=3)
    (metric,) = cfg.test_evaluator
    assert metric['source']['split'] == 'train'
    assert cfg.test_dataloader.dataset.indices == [0, 2, 5]
    assert 'LoadAnnotations' not in str(cfg.test_dataloader.dataset.pipeline)
    (hook,) = find_hooks(cfg, 'LocalizationHook')
    assert hook['policy'] == 'image-labels' and not hook['draw']


@pytest.mark.parametrize('indices', [4, -4, 99, (5, 1, 3, 0), [-1, -3, 0, 2]])
def test_a_choice_of_a_choice(data, tmp_path, indices):
    """Images of the split alone, where the data set is a part of what is there."""
    cfg = mask_run.config(data)
    cfg.train_dataloader.dataset.indices = indices
    split = paths_of(cfg.train_dataloader.dataset)
    use_calibration(cfg, str(tmp_path / 'c.json'), num_images=3)
    found = paths_of(cfg.test_dataloader.dataset)
    assert found == [split[index] for index in spread_indices(len(split), 3)]


def paths_of(dataset):
    dataset = DATASETS.build(dict(dataset, pipeline=[]))
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def test_what_cannot_be_calibrated(data, tmp_path):
    with pytest.raises(ValueError, match='num_images must be at least 1, got 0'):
        use_calibration(mask_run.config(data), 'c.json', num_images=0)
    with pytest.raises(ValueError, match='--tta'):
        use_calibration(Config(dict(model=dict(type='MoReTTAModel'))), 'c.json')


@pytest.mark.slow
def test_a_run_and_masks_by_its_file(data, tmp_path):
    """From a model to its file, and to masks whose folder knows the thresholds."""
    path = str(tmp_path / 'c.json')
    cfg = mask_run.config(data)
    use_calibration(cfg, path, ms_scales=(1.0, 0.5))
    cfg.work_dir = str(tmp_path / 'work')
    mask_run.run(cfg)
    file = Calibration.load(path)
    assert file.source['num_images'] == len(mask_run.IMAGES)
    out = tmp_path / 'masks'
    mask_run.run_masks(data, out, source='cam', bkg=None, calibration=path, crf=True)
    settings = mask_run.manifest(out)['settings']
    assert settings['bkg'] == file.threshold('cam', 'ms').bkg
    assert settings['background'] == 'calibrated'
    changed = json.loads((tmp_path / 'c.json').read_text())
    changed['thresholds']['ms']['cam']['bkg'] = 0.77
    (tmp_path / 'c.json').write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r'settings\.bkg is .* there, 0\.77 now'):
        mask_run.run_masks(data, out, source='cam', bkg=None, calibration=path, crf=True)
