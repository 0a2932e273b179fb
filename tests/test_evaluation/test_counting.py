"""Counts of several ranks."""

import math

import pytest
import torch
import torch.multiprocessing as mp

from localization_samples import evaluate_rank, make_protocol_sample, metrics

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
