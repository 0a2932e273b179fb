import math

import pytest
import torch

from mmseg_more.evaluation.health.figures import (
    HealthCounts,
    RawMaps,
    Thresholds,
    class_health,
    health_score,
)

THRESHOLDS = Thresholds(high=0.6, low=0.3, bkg=0.5)
GRID = (4, 6)  # not square; the ring is 16 of 24 patches


def one_hot_logits(labels, num_labels, size=10.0):
    return (
        size * torch.nn.functional.one_hot(labels, num_labels).permute(0, 3, 1, 2).float()
    )


def maps(cam, lam=None, seg=None):
    """Of B images; ``cam`` and ``lam`` (B, K, h, w), ``seg`` dense labels (B, h, w)."""
    cam = torch.as_tensor(cam, dtype=torch.float32)
    seg = torch.zeros(len(cam), *GRID, dtype=torch.long) if seg is None else seg
    lam = cam if lam is None else lam
    return RawMaps(cam, lam, one_hot_logits(seg, cam.shape[1] + 1))


def count(image, flip=None, scaled=None, present=((1, 0),), scores=None, counts=None):
    present = torch.tensor(present, dtype=torch.float32)
    counts = counts or HealthCounts(present.shape[1], THRESHOLDS)
    scores = 2 * present - 1 if scores is None else scores
    counts.add(image, flip or image, scaled or image, scores, present)
    return counts


def block(*boxes):
    """CAM of one image and two classes, 1 in each (class, rows, columns)."""
    cam = torch.zeros(1, 2, *GRID)
    for index, rows, columns in boxes:
        cam[0, index, rows, columns] = 1
    return cam


INNER = (0, slice(1, 3), slice(1, 3))  # 4 patches of class 0, none of the ring


def test_coverage_and_border():
    cam = block(INNER)
    cam[0, 0, 0, :3] = 0.5  # between low and high, on the ring
    figures = count(maps(cam)).figures()
    torch.testing.assert_close(figures.sure[0].item(), 4 / 24)
    # what is unsure is ignored, not the class; above `low` it counts
    torch.testing.assert_close(figures.coverage[0].item(), 7 / 24)
    torch.testing.assert_close(figures.border[0].item(), 3 / 16)
    assert figures.ignored == 3 / 24
    # the LAM is the same, its threshold .5
    assert figures.lam[0] == pytest.approx(4 / 24) and figures.lam_border[0] == 0
    assert figures.images.tolist() == [1, 0]
    assert math.isnan(figures.coverage[1])  # no image of it


def test_segmentation_against_image_labels():
    seg = torch.zeros(2, *GRID, dtype=torch.long)
    seg[0, 0, :] = 2  # class 1, which only the second image has
    present = ((1, 0), (1, 1))
    cam = block(INNER).expand(2, -1, -1, -1)
    figures = count(maps(cam, seg=seg), present=present).figures()
    assert figures.missing.tolist() == [1, 1]
    assert math.isnan(figures.false_alarm[0])  # every image has class 0
    assert figures.false_alarm[1] == 1
    assert figures.seg_border.tolist() == [0, 0]  # in the class's own images


def test_classifier():
    scores = torch.tensor([[0.1, -0.1], [-0.1, 0.1]])
    present = ((1, 1), (1, 1))
    cam = block(INNER).expand(2, -1, -1, -1)
    figures = count(maps(cam), present=present, scores=scores).figures()
    assert figures.recognised.tolist() == [0.5, 0.5]


def test_agreement_is_the_iou_of_label_maps():
    seg = torch.zeros(1, *GRID, dtype=torch.long)
    seg[0, 1:3, 2:4] = 1  # 2 of its 4 patches are the CAM's
    figures = count(maps(block(INNER), lam=block(INNER), seg=seg)).figures()
    agreement = {name: value[0].item() for name, value in figures.agreement.items()}
    assert agreement == pytest.approx(dict(cam_lam=1, cam_seg=1 / 3, lam_seg=1 / 3))


def test_ignored_patches_are_not_compared():
    cam = block(INNER)
    cam[0, 0, 0, :] = 0.5
    seg = torch.zeros(1, *GRID, dtype=torch.long)
    seg[0, 0, :] = 1  # wherever the CAM is unsure
    seg[0, 1:3, 1:3] = 1
    figures = count(maps(cam, seg=seg)).figures()
    assert figures.agreement['cam_seg'][0] == 1
    assert figures.agreement['lam_seg'][0] == pytest.approx(4 / 10)


def test_consistency_compares_views():
    moved = block((0, slice(1, 3), slice(2, 4)))
    seg = torch.zeros(1, *GRID, dtype=torch.long)
    seg[0, 1:3, 1:3] = 1
    image, flip = maps(block(INNER), seg=seg), maps(moved, seg=seg)
    figures = count(image, flip, maps(block(INNER), seg=0 * seg)).figures()
    consistency = {name: value[0].item() for name, value in figures.consistency.items()}
    expected = dict(flip=1 / 3, scale=1, seg_flip=1, seg_scale=0)
    assert consistency == pytest.approx(expected)
    # the CAM of the labels is the maximum of image and flip
    assert figures.coverage[0] == pytest.approx(6 / 24)


def test_entropy_is_that_of_chance_for_equal_logits():
    figures = count(maps(block(INNER))._replace(segmentation=torch.zeros(1, 3, *GRID)))
    assert figures.figures().entropy == pytest.approx(1)
    assert count(maps(block(INNER))).figures().entropy < 0.01


def test_batches_add_up():
    generator = torch.Generator().manual_seed(0)
    cam, lam = torch.rand(2, 5, 3, *GRID, generator=generator)
    seg = torch.randint(0, 4, (5, *GRID), generator=generator)
    present = torch.rand(5, 3, generator=generator).gt(0.4).tolist()
    together = count(maps(cam, lam, seg), present=present)
    apart = HealthCounts(3, THRESHOLDS)
    for part in (slice(0, 2), slice(2, 5)):
        count(maps(cam[part], lam[part], seg[part]), present=present[part], counts=apart)
    for name, value in together.sums.items():
        torch.testing.assert_close(apart.sums[name], value)


def test_nothing_counted():
    with pytest.raises(ValueError, match='no image'):
        HealthCounts(2, THRESHOLDS).figures()


def score(cam, seg):
    return health_score(count(maps(cam, seg=seg)).figures())


def test_score_of_what_is_well_floods_and_is_dead():
    seg = torch.zeros(1, *GRID, dtype=torch.long)
    seg[0, 1:3, 1:3] = 1
    well = score(block(INNER), seg)
    assert well == pytest.approx(100)
    everywhere = block((0, slice(None), slice(None)))
    everywhere[0, 0, 1, 1] = 0.9  # a constant map is normalised to 0
    everywhere[0, 0, 2, 1] = 0.0
    assert score(everywhere, torch.ones_like(seg)) < 5
    assert score(block(INNER), torch.zeros_like(seg)) < 60
    # no map shows it anywhere: not undefined, but as ill as can be
    assert score(block(), torch.zeros_like(seg)) == 0
    figures = count(maps(block(INNER), seg=seg)).figures()
    assert math.isnan(class_health(figures)[1])
    assert math.isnan(health_score(count(maps(block()), present=((0, 0),)).figures()))
