import pytest

from mmseg_more.report.gallery import Card, Gallery
from report_samples import make_report, make_seen


def card(name, iou, confidence=None, size=10):
    return Card(name, iou, confidence, {}, None, [], dict(image='x' * size))


def names(gallery):
    return [card.name for card in gallery.cards]


def test_worst_iou_first_then_least_confidence():
    gallery = Gallery(10**6)
    for one in (
        card('no figure', None),
        card('sure', None, 0.9),
        card('good', 0.8, 0.1),
        card('doubtful', None, 0.2),
        card('bad', 0.0, 0.9),
        card('a tie', 0.8, 0.05),
    ):
        gallery.add(one)
    assert names(gallery) == ['bad', 'a tie', 'good', 'doubtful', 'sure', 'no figure']
    assert gallery.num_left_out == 0


def test_the_best_have_no_room():
    gallery = Gallery(25)
    for name, iou in (('c', 0.5), ('a', 0.1), ('d', 0.9), ('b', 0.2)):
        gallery.add(card(name, iou))
    assert names(gallery) == ['a', 'b']
    assert gallery.num_left_out == 2


def test_a_card_larger_than_the_room_moves_no_other():
    gallery = Gallery(25)
    for one in (card('a', 0.1), card('large', 0.0, size=26), card('b', 0.2)):
        gallery.add(one)
    assert names(gallery) == ['a', 'b']
    assert gallery.num_left_out == 1


def test_card_of_an_image():
    _, gallery = make_report([make_seen('a', right=1.0)])
    (made,) = gallery.cards
    assert (made.iou, made.labelled, made.shown) == (1, [1, 2], [0, 1, 2])
    assert made.classes == [1, 2]
    assert list(made.pictures) == ['image', 'LAM', 'prediction', 'truth']
    assert made.num_bytes == pytest.approx(sum(map(len, made.pictures.values())))
