import pytest
import torch

from mmseg_more.localization import PAROptions
from mmseg_more.localization.present import present_classes
from mmseg_more.models.segmentors import TrainingLabeler, training_labels
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


def test_the_published_thresholds():
    labeler = TrainingLabeler()
    assert (labeler.high, labeler.low, labeler.bkg) == (0.7, 0.25, 0.5)
    assert (labeler.cre_high, labeler.cam_high, labeler.cam_low) == (0.5, 0.6, 0.35)
    assert labeler.switch_iter == 10000 and labeler.par == PAROptions()


@pytest.mark.parametrize('final_cam', [False, True])
def test_each_loss_has_the_map_and_the_thresholds_of_its_own(final_cam):
    """In steps of .1: the values between the thresholds of one and of another differ."""
    values = torch.arange(0.05, 1, 0.1)[None, None, None]
    cams = TrainingCAMs(cam=values.flip(-1), cam_aux=values)
    labeler = TrainingLabeler(
        high=0.8, low=0.2, cre_high=0.6, cam_high=0.7, cam_low=0.4, switch_iter=1
    )
    cre, ure, affinity = labeler.patch_labels(cams, torch.ones(1, 1), (1, 10), final_cam)
    by_aux = [0, 0, 255, 255, 255, 255, 255, 255, 1, 1]
    assert affinity.flatten().tolist() == by_aux
    if final_cam:
        expected = [1, 1, 1, 255, 255, 255, 0, 0, 0, 0]
        assert cre.flatten().tolist() == ure.flatten().tolist() == expected
    else:
        assert cre.flatten().tolist() == [0, 0, 255, 255, 255, 255, 1, 1, 1, 1]
        assert ure.flatten().tolist() == by_aux


def test_colours_beyond_the_range_are_the_brightest(monkeypatch):
    """Rounding may put a white pixel a little above 255; 8 bit would make it black."""
    seen = []
    monkeypatch.setattr(
        training_labels, 'refine_labels', lambda images, *_: seen.append(images)
    )
    images = torch.tensor([-3.0, 0.0, 0.9, 254.9, 255.0, 255.5, 256.0, 300.0])
    TrainingLabeler().refined_labels(images, torch.ones(1), torch.ones(1))
    expected = torch.tensor([0, 0, 0, 254, 255, 255, 255, 255]) / 255
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=0)
