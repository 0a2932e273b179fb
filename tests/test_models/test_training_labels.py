import pytest
import torch

from mmseg_more.localization.present import present_classes
from mmseg_more.models.segmentors import TrainingLabeler
from mmseg_more.models.structures import TrainingCAMs

OPTIONS = dict(high=0.7, low=0.25, par=dict(dilations=(1,)))


def label(labeler, final_cam=True):
    torch.manual_seed(0)
    cams = TrainingCAMs(torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16))
    present = present_classes(torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), 1)
    images = 255 * torch.rand(2, 3, 16, 16)
    return labeler.label(cams, present, (4, 4), final_cam, images)


def test_thresholds_of_the_segmentation_are_its_own():
    plain = label(TrainingLabeler(**OPTIONS))
    other = label(TrainingLabeler(**OPTIONS, seg_high=0.4, seg_low=0.2))
    shared = label(TrainingLabeler(**{**OPTIONS, 'high': 0.4, 'low': 0.2}))
    torch.testing.assert_close(other.segmentation, shared.segmentation)
    assert (other.segmentation == 2).sum() > (plain.segmentation == 2).sum()
    for name in ('cre', 'ure', 'affinity'):
        torch.testing.assert_close(getattr(other, name), getattr(plain, name))


def test_thresholds_of_the_segmentation_are_the_common_ones_unless_given():
    labeler = TrainingLabeler(**OPTIONS)
    assert (labeler.seg_high, labeler.seg_low) == (0.7, 0.25)
    labeler = TrainingLabeler(**OPTIONS, seg_high=0.4)
    assert (labeler.seg_high, labeler.seg_low) == (0.4, 0.25)


@pytest.mark.parametrize(
    'options', [dict(seg_high=0.1), dict(seg_low=0.8), dict(seg_high=1.5)]
)
def test_thresholds_of_the_segmentation_are_ordered(options):
    with pytest.raises(ValueError, match='seg_low, seg_high must be ordered'):
        TrainingLabeler(**OPTIONS, **options)
