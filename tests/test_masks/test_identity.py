import hashlib

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseTTAModel
from torch import nn

from mmseg_more.masks.identity import (
    file_sha256,
    model_settings,
    weights_sha256,
    without_annotations,
)


class Model(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 2).to(dtype)
        self.register_buffer('count', torch.tensor(3))

    def test_step(self, data):
        return data


class Wrapper(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


def test_hash_of_the_weights():
    first = weights_sha256(Model())
    assert weights_sha256(Model()) == weights_sha256(Wrapper(Model())) == first
    assert (
        len(
            {
                first,
                weights_sha256(Model(torch.bfloat16)),
                weights_sha256(nn.Sequential(Model())),
            }
        )
        == 3
    )
    for change in (
        lambda model: model.linear.weight.data[0, 0].add_(1e-7),
        lambda model: model.count.add_(1),
    ):
        model = Model()
        change(model)
        assert weights_sha256(model) != first


def test_hash_of_a_file(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc' * 500000)
    assert file_sha256(str(tmp_path / 'a')) == hashlib.sha256(b'abc' * 500000).hexdigest()
    assert file_sha256(None) is None
    assert file_sha256('https://example.org/a.pth') is None


def test_settings_of_the_model():
    model = ConfigDict(
        type='MoReTTAModel',
        module=dict(
            type='MoRe',
            pretrained='vit.pth',
            losses=dict(ptc=dict()),
            backbone=dict(type='MoReViT', depth=3, init_cfg=dict(a=1)),
        ),
    )
    assert model_settings(model) == dict(
        type='MoReTTAModel',
        module=dict(type='MoRe', backbone=dict(type='MoReViT', depth=3)),
    )
    assert model_settings(None) is None and model_settings(nn.Linear(1, 1)) is None


def test_annotations_go_by_any_name():
    class LoadAnnotations:
        pass

    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='mmseg.LoadAnnotations'),
        dict(type='LoadMask'),
        dict(type=LoadAnnotations),
        LoadAnnotations(),
        dict(type='Pack'),
    ]
    before = list(pipeline)
    assert without_annotations(pipeline) == [pipeline[0], pipeline[-1]]
    assert pipeline == before


def test_what_is_no_tensor_does_not_count():
    class WithState(Model):
        def get_extra_state(self):
            return dict(note='made today')

        def set_extra_state(self, state):
            pass

    assert weights_sha256(WithState()) == weights_sha256(Model())
