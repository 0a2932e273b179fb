"""The class that a part of a config names, in whatever way it does."""

import pytest
from mmengine.config import ConfigDict

from mmseg_more.engine.type_name import type_name
from mmseg_more.models.losses import PatchAffinityLoss


@pytest.mark.parametrize(
    'part',
    [
        dict(type='PatchAffinityLoss', loss_weight=0.3),
        ConfigDict(type='mmseg.PatchAffinityLoss'),
        dict(type='mmseg_more.models.losses.PatchAffinityLoss'),
        dict(type=PatchAffinityLoss),
        PatchAffinityLoss(),
    ],
    ids=['name', 'scope', 'module', 'class', 'object'],
)
def test_bare_name(part):
    assert type_name(part) == 'PatchAffinityLoss'


def test_no_type():
    assert type_name(dict(loss_weight=0.3)) == ''
