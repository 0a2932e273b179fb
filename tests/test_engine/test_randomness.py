import random

import numpy as np
import pytest
import torch

from mmseg_more.engine.randomness import seed_generators


def draws():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_a_key_gives_the_same_numbers_whatever_was_drawn():
    seed_generators(3, 5)
    first = draws()
    np.random.rand(7), random.random(), torch.rand(3)
    seed_generators(3, 5)
    assert draws() == first


def test_other_keys_and_other_generators_give_other_numbers():
    numbers = []
    for key in [(0,), (1,), (0, 1), (1, 1), (0, 1, 1), (2**32 - 1, 10**6, 3, 2)]:
        seed_generators(*key)
        numbers += draws()
    assert len(set(numbers)) == len(numbers)


def test_negative_keys():
    with pytest.raises(ValueError):
        seed_generators(-1, 0)
