import pytest
from mmengine.model import BaseModel

from mmseg_more.engine.hooks.utils import unwrap_model
from mmseg_more.models import MoReTTAModel


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.localization_request = None

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


def test_inside_test_time_augmentation():
    net = Net()
    assert unwrap_model(MoReTTAModel(module=net), 'localization_request') is net


def test_missing_attribute():
    with pytest.raises(AttributeError, match='Net has no attribute "iteration"'):
        unwrap_model(Net(), 'iteration')
