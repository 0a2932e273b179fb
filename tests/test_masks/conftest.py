"""A data set and the masks of it, made once."""

import shutil

import pytest
import torch
from mmengine.registry import DefaultScope

import mask_run
from mask_run import mask_config, run_masks
from mmseg_more.models.structures import LocalizationRequest


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return mask_run.make_data(tmp_path_factory.mktemp('masks') / 'data')


@pytest.fixture(scope='session')
def outputs(data):
    """What the model says of each image, asked for by hand."""
    request = LocalizationRequest(ms_scales=(1.0, 0.5), seg_scales=(1.0, 0.5))
    cfg = mask_config(data, data.parent / 'by_hand')
    cfg.custom_hooks, cfg.test_cfg = [], dict(type='TestLoop')
    with DefaultScope.overwrite_default_scope('mmseg'):
        runner = mask_run.run(cfg)
        runner.model.localization_request = request
        with torch.no_grad():
            samples = [runner.model.test_step(batch)[0] for batch in runner.test_dataloader]
    return {mask_run.name_of(sample.img_path, data): sample for sample in samples}


@pytest.fixture(scope='session')
def finished(data):
    """A run without CRF."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        run_masks(data, data.parent / 'finished')
    return data.parent / 'finished'


@pytest.fixture
def masks(finished, tmp_path):
    """A folder of its own for a test, all done."""
    return shutil.copytree(finished, tmp_path / 'masks')
