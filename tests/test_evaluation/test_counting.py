"""Counts of several ranks."""

import math

import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st

from localization_samples import evaluate_rank, make_protocol_sample, metrics
from mmseg_more.evaluation import counting
from mmseg_more.evaluation.counting import CountingMetric

NUM_IMAGES = 5


@pytest.mark.slow
def test_two_ranks_count_each_image_once(tmp_path):
    samples = [make_protocol_sample(i, tmp_path) for i in range(NUM_IMAGES)]
    mp.spawn(evaluate_rank, args=(2, str(tmp_path), NUM_IMAGES), nprocs=2)
    for name, metric in metrics().items():
        metric.process(None, [sample.to_dict() for sample in samples])
        alone = metric.evaluate(NUM_IMAGES)
        for rank in range(2):
            ranks = torch.load(tmp_path / f'{rank}.pt')[name]
            # mean IoUs of objects are sums of fractions, in another order
            assert ranks == pytest.approx(alone, rel=1e-12, nan_ok=True)
            assert not all(map(math.isnan, alone.values()))


class SumOfNumbers(CountingMetric):
    """Counts numbers; some of them are known after the next image alone."""

    def process(self, data_batch, data_samples):
        for number, is_late in data_samples:
            image = self._new_image((number,))
            for late in self.__dict__.pop('late', ()):
                self._add(*late)
            counts = dict(sum=torch.tensor(number), count=torch.tensor(1))
            if is_late:
                self.late = [(image, counts)]
            else:
                self._add(image, counts)

    def finish(self):
        for late in self.__dict__.pop('late', ()):
            self._add(*late)

    def compute_metrics(self, results):
        return {name: value.item() for name, value in self._counts.items()}


class Gathered(Exception):
    """Holds what a process would have sent to the others."""


def evaluate(numbers, rank, world_size, batch_size, gather):
    per_rank = math.ceil(len(numbers) / world_size)
    padded = [numbers[i % len(numbers)] for i in range(per_rank * world_size)]
    metric, own = SumOfNumbers(), padded[rank::world_size]
    for first in range(0, len(own), batch_size):
        metric.process(None, own[first : first + batch_size])
    metric.finish()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, 'get_dist_info', lambda: (rank, world_size))
        patch.setattr(counting, 'all_gather_object', gather)
        try:
            return metric.evaluate(len(numbers))
        finally:
            assert not metric._counts and not metric.results  # ready for another run


@given(
    st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_each_image_counts_once_however_they_are_shared(numbers, world_size, batch_size):
    def stop(counts):
        raise Gathered(counts)

    sent = []
    for rank in range(world_size):
        with pytest.raises(Gathered) as gathered:
            evaluate(numbers, rank, world_size, batch_size, stop)
        sent.append(gathered.value.args[0])
    expected = dict(sum=sum(number for number, _ in numbers), count=len(numbers))
    for rank in range(world_size):
        found = evaluate(numbers, rank, world_size, batch_size, lambda _: sent)
        assert found == expected
