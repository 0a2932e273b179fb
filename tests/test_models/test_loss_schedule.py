"""Each loss counts from the iteration after its ``begin`` on; labels switch likewise."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmseg_more.models.loss_schedule import DEFAULT_LOSSES, REACHED_BY, LossSchedule
from mmseg_more.models.segmentors import TrainingLabeler
from strategies import few_examples
from tiny_model import batch, tiny_config, tiny_model

NAMES = list(DEFAULT_LOSSES)


@st.composite
def schedules(draw):
    """Some losses: name -> None, or the iteration after which it counts."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    return {name: draw(st.one_of(st.none(), st.integers(-1, 10))) for name in names}


def losses_of(begins):
    return {name: dict(DEFAULT_LOSSES[name], begin=begin) for name, begin in begins.items()}


def expected(begins, iteration):
    return [
        name
        for name in NAMES
        if name in begins and (begins[name] is None or iteration > begins[name])
    ]


@given(schedules(), st.integers(0, 12))
def test_losses_count_after_their_begin(begins, iteration):
    active = LossSchedule(losses_of(begins)).active(iteration)
    names = expected(begins, iteration)
    assert active.names == names
    assert active.need_maps == bool({'ptc', 'cre', 'ure', 'seg', 'energy'} & set(names))
    assert active.need_refined_labels == bool({'seg', 'energy'} & set(names))
    assert active.need_class_tokens == bool({'mct', 'cre', 'ure'} & set(names))
    for module, reaching in REACHED_BY.items():
        assert active.reach(module) == bool(set(reaching) & set(names))


@pytest.mark.parametrize('name', ['seg', 'energy'])
def test_the_published_begin_is_the_last_iteration_without(name):
    schedule = LossSchedule(DEFAULT_LOSSES)
    assert [name in schedule.active(i).names for i in (1999, 2000, 2001)] == [0, 0, 1]
    always = set(NAMES) - {'seg', 'energy'}
    assert set(schedule.active(0).names) == always


@pytest.mark.parametrize('switch_iter', [0, 5, 10000])
def test_labels_switch_after_switch_iter(switch_iter):
    labeler = TrainingLabeler(switch_iter=switch_iter)
    found = [labeler.uses_final_cam(switch_iter + step) for step in (-1, 0, 1, 2)]
    assert found == [False, False, True, True]


def test_the_published_switch():
    assert not TrainingLabeler().uses_final_cam(10000)
    assert TrainingLabeler().uses_final_cam(10001)


def test_a_step_takes_the_labels_of_its_iteration(monkeypatch):
    """The schedule is that of MoRe.iteration itself, in the step it is set for."""
    inputs, samples = batch([1, 0, 1])
    model = tiny_model(pseudo_label=dict(switch_iter=5, par=dict(dilations=(1,))))
    seen = []
    label = model.training_labeler.label
    monkeypatch.setattr(
        model.training_labeler,
        'label',
        lambda cams, present, grid, final_cam, *others: (
            seen.append(final_cam) or label(cams, present, grid, final_cam, *others)
        ),
    )
    for iteration in (4, 5, 6, 7, 5):
        model.iteration = iteration
        model.loss(inputs, samples)
    assert seen == [False, False, True, True, False]


@pytest.mark.slow
@few_examples
@given(schedules(), st.integers(0, 12))
@example(dict(seg=3, cre=5), 3)
@example(dict(seg=3, cre=5), 4)
def test_a_step_has_the_losses_and_gradients_of_its_iteration(begins, iteration):
    """Whatever counts, every weight gets a gradient: a zero, where nothing reaches it."""
    names = expected(begins, iteration)
    model = tiny_model(iteration, losses=losses_of(begins))
    inputs, samples = batch([1, 0, 1])
    if not names:
        with pytest.raises(ValueError, match=f'no loss counts at iteration {iteration}: '):
            model.loss(inputs, samples)
        return
    losses = model.loss(inputs, samples)
    assert list(losses) == [f'loss_{name}' for name in names]
    sum(losses.values()).backward()
    reached = {
        part: any(name in names for name in reaching)
        for part, reaching in REACHED_BY.items()
    }
    for name, parameter in model.named_parameters():
        part = name.split('.')[0]
        if part in reached:
            assert parameter.grad is not None, name
            assert reached[part] or not parameter.grad.any(), name


def test_config_without_a_loss_to_compute():
    with pytest.raises(ValueError, match='every loss has weight 0'):
        LossSchedule(dict(cls=dict(type='MultiLabelSoftMarginLoss', loss_weight=0)))
    with pytest.raises(ValueError, match="unknown losses \\['clss'\\]"):
        LossSchedule(dict(clss=dict(type='MultiLabelSoftMarginLoss')))
    assert set(tiny_config().losses) == set(NAMES)
