"""Maps at the size of a large image: the guided filter against its definition."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mmseg_more import localization as L
from mmseg_more.localization import guided


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def together(strips, size):
    """The strips side by side; every row is there once."""
    rows, values = zip(*strips)
    assert [row for part in rows for row in range(part.start, part.stop)] == [*range(size)]
    return torch.cat(values, dim=1)


def by_definition(guide, maps, radius, eps):
    """He, Sun and Tang, equations 14 to 16, window by window in double precision."""
    guide, maps = guide.double().numpy(), maps.double().numpy()
    _, height, width = guide.shape

    def window(values, row, column):
        return values[
            :,
            max(row - radius, 0) : row + radius + 1,
            max(column - radius, 0) : column + radius + 1,
        ]

    slopes = np.zeros((len(maps), 3, height, width))
    offsets = np.zeros((len(maps), height, width))
    for row in range(height):
        for column in range(width):
            colours = window(guide, row, column).reshape(3, -1)
            values = window(maps, row, column).reshape(len(maps), -1)
            covariance = np.cov(colours, bias=True) + eps * np.eye(3)
            mean = colours.mean(1)
            for channel, value in enumerate(values):
                right = (colours * value).mean(1) - mean * value.mean()
                slope = np.linalg.solve(covariance, right)
                slopes[channel, :, row, column] = slope
                offsets[channel, row, column] = value.mean() - slope @ mean
    result = []
    for row in range(height):
        for column in range(width):
            slope = window(slopes.reshape(-1, height, width), row, column).mean((1, 2))
            offset = window(offsets, row, column).mean((1, 2))
            result.append(slope.reshape(-1, 3) @ guide[:, row, column] + offset)
    return torch.tensor(np.array(result).T.reshape(len(maps), height, width))


@pytest.mark.parametrize('size', [(7, 9), (1, 12), (3, 2)])
@pytest.mark.parametrize('radius', [1, 2])
def test_the_filter_is_that_of_the_definition(size, radius):
    levels = (noise(*size, 3) * 255).byte()
    guide, maps = levels.permute(2, 0, 1) / 255, noise(2, *size, seed=1)
    fitted = L.fit_guided_filter(guide, maps, radius, eps=0.01)
    found = together(L.guided_strips(fitted, levels), size[0])
    # variances are differences of sums of float32
    expected = by_definition(guide, maps, radius, 0.01).float()
    assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    'low, size', [((5, 7), (23, 31)), ((1, 4), (1, 50)), ((6, 1), (40, 3))]
)
def test_rows_at_a_time_are_the_whole_interpolation(low, size, monkeypatch):
    monkeypatch.setattr(guided, '_STRIP_PIXELS', 2 * size[1])
    maps = noise(3, *low)
    found = together(L.enlarged_strips(maps, size), size[0])
    assert_close(found, L.resize_map(maps[None], size)[0], rtol=0, atol=1e-6)


def test_channels_that_sum_to_one_still_do(monkeypatch):
    """The filter is linear, and leaves what is constant."""
    probs = noise(3, 8, 8).softmax(0)
    fitted = L.fit_guided_filter(noise(3, 8, 8, seed=2), probs)
    found = together(L.guided_strips(fitted, (noise(20, 24, 3) * 255).byte()), 20)
    assert_close(found.sum(0), torch.ones(20, 24), rtol=0, atol=1e-4)


def test_an_edge_of_the_image_is_found_again():
    """It runs through the low pixels; interpolation alone leaves it at their border."""
    image = torch.zeros(64, 64, 3, dtype=torch.uint8)
    image[:, 37:] = 200
    truth = (image[..., 0] > 0).float()
    low = torch.nn.functional.adaptive_avg_pool2d(image.permute(2, 0, 1) / 255, 8)
    probs = low[:1] * 255 / 200
    fitted = L.fit_guided_filter(low, probs)
    followed = together(L.guided_strips(fitted, image), 64)[0]
    plain = together(L.enlarged_strips(probs, (64, 64)), 64)[0]
    assert ((followed > 0.5) != truth.bool()).sum() == 0
    assert ((plain > 0.5) != truth.bool()).sum() > 0
