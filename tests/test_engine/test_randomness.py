import random
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import iteration_run
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


@given(st.lists(st.lists(st.integers(0, 2**40), max_size=4), min_size=2, max_size=5))
def test_any_keys(keys):
    """Keys give the same numbers if they are the same, but for zeros at the end."""

    def significant(key):
        while key and key[-1] == 0:
            key = key[:-1]
        return tuple(key)

    numbers = {}
    for key in keys:
        seed_generators(*key)
        drawn = draws()
        assert len(set(drawn)) == 3  # the generators differ
        assert numbers.setdefault(significant(key), drawn) == drawn
    assert len(set(numbers.values())) == len(numbers)


def test_numbers_of_a_key_stay():
    """A training that goes on after an update of this package has the same numbers."""
    seed_generators(3, 5)
    words = np.random.SeedSequence((3, 5)).generate_state(10)
    assert random.getstate() == random.Random(words[:4].tobytes()).getstate()
    expected = np.random.RandomState(words[4:8])
    assert np.random.rand() == expected.rand()
    assert torch.initial_seed() == int(words[8]) + (int(words[9]) << 32)


class DrawingImages(iteration_run.Images):
    """Writes down what an augmentation would draw."""

    drawn: list = []

    def __getitem__(self, index):
        self.drawn.append(draws())
        return super().__getitem__(index)


def draws_of_training(monkeypatch, folder, rank):
    """What samples and steps of one of two processes draw, without loader workers."""
    monkeypatch.setattr(iteration_run, 'Images', DrawingImages)
    monkeypatch.setattr(DrawingImages, 'drawn', [])
    net, _ = iteration_run.model()
    steps = []
    net.backbone.register_forward_pre_hook(lambda *_: steps.append(draws()))
    with (
        mock.patch('mmseg_more.engine.train_loop.get_rank', return_value=rank),
        mock.patch('mmseg_more.engine.sample_stream.get_dist_info', return_value=(rank, 2)),
        mock.patch('mmengine.dataset.sampler.get_dist_info', return_value=(rank, 2)),
    ):
        iteration_run.train(
            net,
            folder / str(rank),
            dict(type='ResumableTrainLoop', max_iters=4),
            randomness=dict(seed=0),
        )
    return DrawingImages.drawn, steps


def test_processes_draw_other_numbers(monkeypatch, tmp_path):
    """All three generators, in augmentations and in steps."""
    first, second = (draws_of_training(monkeypatch, tmp_path, rank) for rank in range(2))
    assert [len(each) for each in (*first, *second)] == [8, 4, 8, 4]
    for generator in range(3):
        numbers = [draw[generator] for part in (*first, *second) for draw in part]
        assert len(set(numbers)) == len(numbers)
