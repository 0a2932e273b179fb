import numpy as np
import pytest
import torch

from mmseg_more.visualization import (
    color_labels,
    draw_grid,
    heat_overlay,
    localization_panel,
    mask_overlay,
    strongest,
)
from mmseg_more.visualization.drawing import IGNORE_COLOR, label_legend

PALETTE = [[0, 0, 0], [200, 0, 0], [0, 200, 0]]
CLASSES = ('background', 'circle', 'star')


def image(height=20, width=30):
    return np.full((height, width, 3), 100, np.uint8)


def count_color(picture, color):
    return int((picture == np.array(color, np.uint8)).all(-1).sum())


def test_heat_overlay_does_not_stretch_the_map():
    low = heat_overlay(image(), torch.full((20, 30), 0.1), alpha=1)
    high = heat_overlay(image(), torch.full((20, 30), 0.9), alpha=1)
    assert low[0, 0, 2] > low[0, 0, 0]  # blue
    assert high[0, 0, 0] > high[0, 0, 2]  # red
    clipped = heat_overlay(image(), np.full((20, 30), 3.0), alpha=1)
    assert (clipped == heat_overlay(image(), np.ones((20, 30)), 1)).all()


def test_heat_overlay_blends():
    heat = torch.rand(20, 30, generator=torch.Generator().manual_seed(0))
    assert (heat_overlay(image(), heat, alpha=0) == image()).all()
    half = heat_overlay(image(), heat.half(), alpha=0.5).astype(float)
    full = heat_overlay(image(), heat.half(), alpha=1).astype(float)
    # rounding to 8 bit
    assert np.abs(half - (full + 100) / 2).max() <= 1


def test_heat_overlay_checks_sizes():
    with pytest.raises(ValueError, match=r'heat map is \(30, 20\)'):
        heat_overlay(image(), torch.zeros(30, 20))
    with pytest.raises(ValueError, match='RGB image'):
        heat_overlay(image()[..., 0], torch.zeros(20, 30))


def test_color_labels():
    picture = color_labels(torch.tensor([[[0, 1], [2, 255]]]), PALETTE)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[PALETTE[0], PALETTE[1]], [PALETTE[2], list(IGNORE_COLOR)]]
    with pytest.raises(ValueError, match='palette has 3 colours'):
        color_labels(torch.tensor([[3]]), PALETTE)


def test_legend_names_what_is_shown():
    legend = label_legend({0, 2, 255}, CLASSES, PALETTE)
    assert list(legend.items()) == [
        ('background', PALETTE[0]),
        ('star', PALETTE[2]),
        ('ignored', IGNORE_COLOR),
    ]


def test_mask_overlay_leaves_the_background():
    picture, labels = image(40, 60), np.zeros((40, 60), int)
    labels[10:30, 10:50] = 1
    half = mask_overlay(picture, labels, PALETTE)
    assert np.array_equal(half[labels == 0], picture[labels == 0])
    expected = picture[20, 20] / 2 + np.array(PALETTE[1]) / 2
    assert np.allclose(half[20, 20], expected, atol=1)
    # the name is written inside the class, where it fits
    named = mask_overlay(picture, torch.from_numpy(labels[None]), PALETTE, CLASSES, 1.0)
    assert picture.max() < 200 < named.min(axis=-1).max()  # nearly white, thin as it is
    assert np.array_equal(named[[0, -1]], picture[[0, -1]])
    for height, width in ((1, 60), (60, 1), (1, 1)):
        thin = mask_overlay(
            image(height, width), np.ones((height, width), int), PALETTE, CLASSES, 1.0
        )
        assert (thin == PALETTE[1]).all()
    with pytest.raises(ValueError, match='the mask is'):
        mask_overlay(picture, labels[:5], PALETTE)


def test_strongest():
    maps = torch.tensor([[[0.1, 0.9]], [[0.5, 0.2]], [[1.0, 1.0]]])
    assert np.allclose(strongest(maps, [0, 1]), [[0.5, 0.9]])
    assert (strongest(maps, []) == 0).all()


def test_panel_has_a_row_per_class():
    maps = dict(cam=torch.rand(2, 20, 30), lam=torch.rand(2, 20, 30))
    labels = dict(prediction=torch.ones(20, 30).long(), truth=torch.full((20, 30), 255))
    args = (labels, CLASSES, PALETTE)
    one = localization_panel(image(), maps, [1], *args)
    two = localization_panel(image(), maps, [0, 1], *args)
    none = localization_panel(image(), maps, [], *args)
    assert one.dtype == np.uint8 and one.shape[2] == 3
    assert two.shape[1] == one.shape[1] == none.shape[1]
    assert two.shape[0] == one.shape[0] + 160
    assert none.shape == one.shape
    # the prediction, and its colour in the legend
    assert count_color(one, PALETTE[1]) > 0.9 * 153 * 102
    assert count_color(one, IGNORE_COLOR) > 0.9 * 153 * 102


def test_grid_leaves_places_empty():
    red = np.zeros((10, 10, 3), np.uint8)
    red[..., 0] = 255
    full = draw_grid([[red, red]], ['a', 'b'], tile=100)
    part = draw_grid([[red, None]], ['a', 'b'], tile=100)
    assert full.shape == part.shape
    assert count_color(full, (255, 0, 0)) == pytest.approx(
        2 * count_color(part, (255, 0, 0)), rel=0.02
    )
    # black frames apart, the empty place is white
    assert (part[-90:, 120:] == 255).all()


def test_grid_checks_rows():
    with pytest.raises(ValueError, match=r'2 pictures, got rows of \[1\]'):
        draw_grid([[image()]], ['a', 'b'])


def test_names_are_no_formulas():
    """Not even such as would not be valid."""
    for name in ('$x$', r'$\nothing{$'):
        written = draw_grid([[image()]], [name], [name], {name: PALETTE[1]})
        other = draw_grid([[image()]], ['a'], ['a'], {'a': PALETTE[1]})
        assert written.shape == other.shape
    # a formula would be set without the signs
    formula, plain = (
        draw_grid([[image()]], ['a'], [name], {name: PALETTE[1]}) for name in ('$x$', 'x')
    )
    assert (formula < 128).sum() > (plain < 128).sum()
