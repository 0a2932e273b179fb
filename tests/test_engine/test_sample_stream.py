import copy
import itertools
import pickle
import random
import time
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from mmseg_more.engine.sample_stream import Draw, SampleStream, SeededSamples


class Numbers(Dataset):
    metainfo = dict(classes=('a', 'b'))

    def __init__(self, length=10):
        self.length, self.loaded = length, []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.loaded.append(index)
        return index, random.random(), np.random.rand(), torch.rand(1).item()


def first_batches(stream, count):
    return list(itertools.islice(stream, count))


def indices(batches):
    return [[draw.image for draw in batch] for batch in batches]


@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
@pytest.mark.parametrize('drop_last', [False, True])
def test_begins_at_any_batch(sampler, drop_last):
    def stream(first):
        stream = SampleStream(sampler(Numbers(), seed=4), 4, drop_last=drop_last)
        stream.start(4, first)
        return stream

    whole = first_batches(stream(0), 12)
    for first in (1, 2, 3, 7):
        assert first_batches(stream(first), 12 - first) == whole[first:]
    keys = [draw.key for batch in whole for draw in batch]
    assert keys == [(4, position) for position in range(len(keys))]


def test_indices_are_those_of_mmengine():
    stream = SampleStream(InfiniteSampler(Numbers(), seed=1), 4)
    stream.start(1, 0)
    loader = DataLoader(range(10), sampler=InfiniteSampler(Numbers(), seed=1), batch_size=4)
    expected = [batch.tolist() for batch in itertools.islice(loader, 6)]
    assert indices(first_batches(stream, 6)) == expected


def test_epochs_have_orders_of_their_own():
    stream = SampleStream(DefaultSampler(Numbers(), seed=0), 5)
    stream.start(0, 0)
    batches = indices(first_batches(stream, 4))
    assert sorted(batches[0] + batches[1]) == sorted(batches[2] + batches[3])
    assert batches[:2] != batches[2:]


def test_processes_share_the_positions():
    """A sample is augmented in the same way in whichever process it is."""
    batches = {}
    for rank, size in ((0, 1), (0, 2), (1, 2)):
        info = mock.patch.multiple
        with (
            info('mmengine.dataset.sampler', get_dist_info=lambda r=rank, n=size: (r, n)),
            info(
                'mmseg_more.engine.sample_stream',
                get_dist_info=lambda r=rank, n=size: (r, n),
            ),
        ):
            stream = SampleStream(InfiniteSampler(Numbers(), seed=0), 4 // size)
            stream.start(0, 1)
            batches[rank, size] = first_batches(stream, 3)
    for alone, one, two in zip(batches[0, 1], batches[0, 2], batches[1, 2]):
        assert sorted(alone) == sorted(one + two)


def test_is_empty_before_its_start():
    assert list(SampleStream(InfiniteSampler(Numbers(), seed=0), 4)) == []


def test_another_batch_sampler():
    inner = dict(type='BatchSampler', drop_last=True)
    registry = 'mmseg_more.engine.sample_stream.DATA_SAMPLERS.build'
    with mock.patch(registry) as build:
        stream = SampleStream(SequentialSampler(range(5)), 2, batch_sampler=inner)
    assert build.call_args.args == (inner,)
    assert build.call_args.kwargs['default_args']['batch_size'] == 2
    assert stream._batches is build.return_value
    with pytest.raises(ValueError, match='drop_last=True beside a batch_sampler'):
        SampleStream(SequentialSampler(range(5)), 2, True, batch_sampler=inner)


def test_no_batch_at_all():
    stream = SampleStream(DefaultSampler(Numbers(3)), 4, drop_last=True)
    stream.start(0, 0)
    with pytest.raises(ValueError, match='gives no batch'):
        next(iter(stream))


def test_samples_follow_their_keys():
    samples = SeededSamples(Numbers())
    once = samples[Draw(3, (0, 7))]
    torch.rand(5), np.random.rand(), random.random()
    assert samples[Draw(3, (0, 7))] == once
    again = samples[Draw(3, (0, 8))]
    assert again[0] == once[0] and not set(again[1:]) & set(once[1:])


def test_the_data_set_inside_is_seen():
    samples = SeededSamples(Numbers())
    assert samples.metainfo == Numbers.metainfo and len(samples) == 10
    for other in (copy.deepcopy(samples), pickle.loads(pickle.dumps(samples))):
        assert isinstance(other, SeededSamples) and other.length == 10
    assert not hasattr(samples, 'nothing')


def test_far_into_a_training_no_image_of_the_past_is_loaded():
    """Iteration 15000 of VOC: 10582 images, batches of 4."""
    numbers = Numbers(10582)
    stream = SampleStream(InfiniteSampler(numbers, seed=0), 4)
    loader = DataLoader(SeededSamples(numbers), batch_sampler=stream, collate_fn=list)
    begin = time.perf_counter()
    stream.start(0, 15000)
    batch = next(iter(loader))
    # 0.1 s where nothing else runs
    assert time.perf_counter() - begin < 5
    assert numbers.loaded == [sample[0] for sample in batch] and len(batch) == 4


def streams(world_size, length, batch_size, drop_last, first, count):
    """The first batches of every process."""
    found = []
    for rank in range(world_size):
        info = dict(get_dist_info=lambda rank=rank: (rank, world_size))
        with (
            mock.patch.multiple('mmengine.dataset.sampler', **info),
            mock.patch.multiple('mmseg_more.engine.sample_stream', **info),
        ):
            sampler = DefaultSampler(Numbers(length), seed=7)
            stream = SampleStream(sampler, batch_size, drop_last)
            stream.start(7, first)
            found.append(first_batches(stream, count))
    return found


@given(
    world_size=st.integers(1, 3),
    length=st.integers(1, 12),
    batch_size=st.integers(1, 5),
    drop_last=st.booleans(),
    first=st.integers(0, 7),
)
def test_any_start_of_any_processes(world_size, length, batch_size, drop_last, first):
    if drop_last and -(-length // world_size) < batch_size:
        return  # no batch at all
    shape = (world_size, length, batch_size, drop_last)
    whole = streams(*shape, 0, first + 4)
    assert streams(*shape, first, 4) == [batches[first:] for batches in whole]
    # no two samples of a training are augmented alike
    keys = [draw.key for batches in whole for batch in batches for draw in batch]
    assert sorted(keys) == [(7, position) for position in range(len(keys))]
    # and the processes take them in turn
    for number in range(first + 4):
        order = [
            draw for draws in zip(*(batches[number] for batches in whole)) for draw in draws
        ]
        positions = [draw.key[1] for draw in order]
        assert positions == list(range(positions[0], positions[0] + len(positions)))
