import pytest

from benchmarks.common.workload import adapt_config
from golden import ROOT
from mmseg_more.engine import launch


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """For all of these tests."""


@pytest.fixture
def tiny_config():
    """The shapes' config with several scales, at 64 x 64."""
    cfg = launch.load_config(str(ROOT / 'configs/more/more_vit-t_shapes.py'))
    cfg.model.backbone.arch.num_layers = 3
    cfg.model.pretrained = None  # of four layers
    return adapt_config(cfg, size=64, num_scales=3)
