import pytest
import torch
from golden import ROOT

from mmseg_more.benchmark.workload import adapt_config
from mmseg_more.engine import launch


@pytest.fixture(autouse=True)
def one_thread():
    """Threads wait for each other, which takes long where other tests run too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_config():
    """The shapes' config with several scales, at 64 x 64."""
    cfg = launch.load_config(str(ROOT / 'configs/more/more_vit-t_shapes.py'))
    cfg.model.backbone.arch.num_layers = 3
    return adapt_config(cfg, size=64, num_scales=3)
