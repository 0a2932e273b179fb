"""Masks that a config needs, and was told to do without."""

import pytest

from mmseg_more.engine.truth import check_truth

LOAD = [dict(type='LoadAnyImage'), dict(type='PackImageLevelInputs')]
LOAD_MASK = [LOAD[0], dict(type='LoadMask'), LOAD[1]]
TTA = [LOAD[0], dict(type='TestTimeAug', transforms=[[dict(type='LoadAnnotations')]])]
LABELS = dict(type='mmpretrain.MultiLabelMetric')


def config(pipeline, evaluator, split='val', **dataset):
    data = dict(type='ImageLevelDataset', pipeline=pipeline, **dataset)
    return {f'{split}_dataloader': dict(dataset=data), f'{split}_evaluator': evaluator}


@pytest.mark.parametrize('split', ['val', 'test'])
@pytest.mark.parametrize(
    'pipeline, evaluator, message',
    [
        (LOAD_MASK, LABELS, 'its pipeline loads masks by LoadMask: take LoadMask out'),
        (TTA, LABELS, 'its pipeline loads masks by LoadAnnotations'),
        (LOAD, dict(type='LocalizationMetric'), 'LocalizationMetric compares with true'),
        (LOAD, [LABELS, dict(type='mmseg.IoUMetric')], 'IoUMetric compares with true'),
    ],
)
def test_masks_that_are_missing(split, pipeline, evaluator, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_truth(config(pipeline, evaluator, split, with_masks=False))
    assert f'{split}_dataloader.dataset' in str(caught.value)


@pytest.mark.parametrize(
    'cfg',
    [
        {},
        config(LOAD, LABELS, with_masks=False),
        config(LOAD, [], with_masks=False),
        config(LOAD_MASK, dict(type='LocalizationMetric')),
        config(LOAD_MASK, dict(type='LocalizationMetric'), with_masks=True),
        # a transform of the user's own may load masks
        config(LOAD, dict(type='LocalizationMetric')),
        config(LOAD, dict(type='IoUMetric', format_only=True), with_masks=False),
    ],
)
def test_nothing_is_missing(cfg):
    check_truth(cfg)
