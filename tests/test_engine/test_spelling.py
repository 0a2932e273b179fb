"""The name that was probably meant."""

from mmseg_more.engine.config_check import RUNNER_KEYS
from mmseg_more.engine.spelling import closest


def test_closest_counts_slips():
    assert closest('model', RUNNER_KEYS) == 'model'
    assert closest('modl', ['model']) == 'model'
    # two slips are too many for a short name, three for any
    assert closest('mdl', ['model']) is None
    assert closest('tranicfg', ['train_cfg']) == 'train_cfg'
    assert closest('trancgf', ['train_cfg']) is None


def test_nothing_is_close():
    assert closest('anything', []) is None
