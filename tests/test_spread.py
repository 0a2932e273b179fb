"""A few of many, at equal distances."""

import pytest

from mmseg_more.spread import spread_indices


@pytest.mark.parametrize(
    'size, number, expected',
    [(10, 4, [0, 3, 6, 9]), (3, 3, [0, 1, 2]), (3, 7, [0, 1, 2]), (5, 1, [0]), (1, 1, [0])],
)
def test_spread(size, number, expected):
    assert spread_indices(size, number) == expected
