"""From probabilities to masks: order, failures, bounds, and what is kept meanwhile."""

import time

import numpy as np
import pytest
import torch

from mmseg_more.masks import (
    ClassProbabilities,
    MaskMaker,
    MaskRecipe,
    dense_crf_mask,
    probabilities_to_mask,
)
from mmseg_more.masks import pool as pool_module

CRF = dict(num_iters=2, bilateral_sxy=5.0)


def recipe(**options):
    return MaskRecipe(source='seg', policy='all', **options).resolve(True, False)


def example(index, size=(6, 8), channels=3):
    generator = torch.Generator().manual_seed(index)
    probs = torch.rand(channels, *size, generator=generator)
    labels = torch.tensor([0, 4, 7])[:channels]
    return ClassProbabilities(probs / probs.sum(0), labels)


def image_of(probabilities):
    size = probabilities.probs.shape[1:]
    generator = np.random.default_rng(int(size[0]))
    return generator.integers(0, 256, (*size, 3), np.uint8)


def run(maker, items):
    made = []
    for index, item in items:
        made += maker.add(f'{index}.jpg', item, lambda item=item: image_of(item), index)
    return made + maker.drain()


@pytest.mark.parametrize('workers', [0, 2])
def test_masks_of_the_crf(workers):
    items = [(i, example(i, (30, 40) if i % 3 == 0 else (3, 4))) for i in range(8)]
    with MaskMaker(recipe(crf=dict(CRF, epsilon=0.0)), workers) as maker:
        made = run(maker, items)
    assert [one.payload for one in made] == list(range(8))
    options = maker.recipe.crf
    for (_, item), one in zip(items, made):
        expected = dense_crf_mask(
            image_of(item),
            item.probs,
            item.labels,
            type(dense_crf_mask.__defaults__[0])(
                **{k: v for k, v in options.items() if k not in ('epsilon', 'backend')}
            ),
            0.0,
        )
        assert one.error is None and np.array_equal(one.mask, expected.mask)
        np.testing.assert_array_equal(one.confidence, expected.confidence)
        assert one.labels.tolist() == item.labels.tolist()


def test_masks_without_crf_are_there_at_once():
    item = example(1)
    with MaskMaker(recipe()) as maker:
        (made,) = maker.add('a', item, None, 'payload')
    assert made.payload == 'payload' and made.error is None
    assert np.array_equal(made.mask, probabilities_to_mask(item))
    won = made.mask == 4
    assert made.confidence[1] == pytest.approx(item.probs[1][torch.tensor(won)].mean())
    (made,) = maker.add_mask(torch.zeros(2, 3).long())
    assert made.mask.dtype == np.uint8 and made.labels is None and made.confidence is None


@pytest.mark.parametrize('workers', [0, 1])
def test_an_image_that_fails_keeps_its_place(workers):
    def unreadable():
        raise OSError('no such file')

    with MaskMaker(recipe(crf=CRF), workers) as maker:
        made = maker.add(
            'a', example(0, (40, 60)), lambda: image_of(example(0, (40, 60))), 0
        )
        made += maker.add('b', example(1), unreadable, 1)
        made += maker.fail(2, 'the network failed')
        made += maker.add('d', example(3), lambda: np.zeros((1, 1, 3), np.uint8), 3)
        made += maker.add('e', example(4), lambda: image_of(example(4)), 4)
        made += maker.drain()
    assert [one.payload for one in made] == [0, 1, 2, 3, 4]
    errors = [one.error for one in made]
    assert errors[0] is None and errors[4] is None
    assert errors[1] == 'no such file' and errors[2] == 'the network failed'
    assert 'dense CRF of d' in errors[3]
    assert all((one.mask is None) == (one.error is not None) for one in made)


@pytest.mark.slow
@pytest.mark.parametrize('crf', [False, True])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_an_image_without_finite_probabilities_fails_alone(crf, value):
    """Half precision may overflow."""
    items = [(index, example(index)) for index in range(3)]
    bad = items[1][1]
    bad.probs[1, 2, 3] = value
    with MaskMaker(recipe(crf=crf), num_workers=0) as maker:
        made = run(maker, items)
        made += maker.add_mask(torch.zeros(6, 8, dtype=torch.long), bad, 3)
    assert [one.payload for one in made] == [0, 1, 2, 3]
    assert [one.error is None for one in made] == [True, False, True, False]
    assert 'NaN or infinity' in made[1].error


def test_an_image_that_takes_too_long_fails_alone(monkeypatch):
    refine = pool_module.dense_crf_mask

    def slow(image, *args):
        if image.shape[0] == 5:
            time.sleep(600)
        return refine(image, *args)

    monkeypatch.setattr(pool_module, 'dense_crf_mask', slow)
    items = [(0, example(0)), (1, example(1, (5, 8))), (2, example(2))]
    with MaskMaker(recipe(crf=True, crf_timeout=2.0), 1) as maker:
        before, failed, after = run(maker, items)
    assert failed.mask is None
    assert failed.error == 'dense CRF of 1.jpg: it took longer than 2.0 s (crf_timeout)'
    assert before.error is None and after.error is None


def test_weak_classes_are_not_kept():
    """What waits are the channels that may win: here three of 21."""
    probs = torch.full((21, 4, 4), 0.001)
    probs[[0, 3, 9]] = 0.3
    item = ClassProbabilities(probs, torch.arange(21))
    with MaskMaker(recipe(crf=CRF), 0) as maker:
        maker.add('a', item, lambda: np.zeros((4, 4, 3), np.uint8))
        kept = maker.add('b', item, lambda: np.zeros((4, 4, 3), np.uint8))[-1]
    assert kept.labels.tolist() == [0, 3, 9] and len(kept.confidence) == 3


def test_memory_is_bounded_in_bytes():
    """Two images of a payload fit; the third waits for the first."""
    item = example(0)
    of_job = item.probs.nbytes + image_of(item).nbytes + 5 * item.probs[0].numel()
    held = 10**6
    with MaskMaker(recipe(crf=CRF), 1, max_bytes=2 * (held + of_job)) as maker:
        waiting = largest = 0
        for index in range(12):
            made = maker.add('a', item, lambda: image_of(item), index, held)
            waiting += 1 - len(made)
            largest = max(largest, waiting)
        rest = maker.drain()
    assert largest <= 2 and waiting == len(rest)
    with MaskMaker(recipe(crf=CRF), 1, max_bytes=1) as maker:  # one always may
        assert len(run(maker, [(i, item) for i in range(3)])) == 3


def test_what_was_not_drained_is_dropped():
    with MaskMaker(recipe(crf=CRF), 1) as maker:
        maker.add('a', example(0), lambda: image_of(example(0)))
    assert maker.drain() == []


def test_what_was_dropped_holds_nothing_up():
    with MaskMaker(recipe(crf=CRF), 1) as maker:
        maker.add('a', example(0, (60, 80)), lambda: image_of(example(0, (60, 80))))
    assert [
        made.payload for made in maker.add_mask(torch.zeros(2, 3).long(), None, 'b')
    ] == ['b']
