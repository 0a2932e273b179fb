"""A training whose loss is not finite ends before that is saved."""

from types import SimpleNamespace

import pytest
import torch

import ending_run  # registers Spoil
import iteration_run
from mmseg_more.engine.hooks import finite_loss_hook

from mmseg.registry import HOOKS

pytestmark = pytest.mark.usefixtures('one_thread')

NAN, INF = float('nan'), float('inf')


def train(folder, spoiled=None, hooks=(), **options):
    """A training in which loss_cls is ``spoiled[iteration]`` in addition."""
    net, seen = iteration_run.model()
    loss = net.loss

    def spoil(inputs, data_samples):
        losses = loss(inputs, data_samples)
        losses['loss_cls'] = losses['loss_cls'] + (spoiled or {}).get(net.iteration, 0.0)
        return losses

    net.loss = spoil
    iteration_run.train(
        net,
        folder,
        default_hooks=dict(finite_loss=dict(type='FiniteLossHook')),
        custom_hooks=list(hooks),
        **options,
    )
    return seen


def saved(folder):
    return {path.name for path in folder.glob('*.pth')}


@pytest.mark.parametrize('value', [NAN, INF, -INF])
def test_it_ends_in_the_iteration_and_names_the_loss(tmp_path, value):
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, {3: value, 4: NAN})
    assert f'loss_cls was {value} in iteration 4' in str(error.value)
    assert saved(tmp_path) == {'iter_2.pth'}  # the next one would be that of iteration 4
    weights = torch.load(tmp_path / 'iter_2.pth')['state_dict']
    assert all(value.isfinite().all() for value in weights.values())


def test_finite_losses_pass(tmp_path):
    assert train(tmp_path) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize('averaged', [False, True])
def test_weights_are_not_saved_that_are_not_finite(tmp_path, averaged):
    """A gradient can be NaN where no loss was."""
    hooks = [dict(type='Spoil', iteration=4)]
    hooks += [dict(type='EMAHook')] if averaged else []
    with pytest.raises(FloatingPointError, match='weight .* not finite after iteration 4'):
        train(tmp_path, hooks=hooks)
    assert saved(tmp_path) == {'iter_2.pth'}


def test_averages_are_looked_at_too():
    """The model may have recovered, by hand or by a hook, and its average has not."""
    hook = HOOKS.build(dict(type='FiniteLossHook'))
    model = torch.nn.Linear(2, 1)
    state = model.state_dict()
    checkpoint = dict(state_dict=state, meta=dict(iter=3))
    hook.before_save_checkpoint(SimpleNamespace(model=model), checkpoint)
    spoiled = {'module.weight': state['weight'] * NAN, 'steps': torch.tensor(NAN)}
    checkpoint['ema_state_dict'] = spoiled
    with pytest.raises(FloatingPointError, match='weight weight is not finite'):
        hook.before_save_checkpoint(SimpleNamespace(model=model), checkpoint)


def runner(iteration, scaler=None):
    wrapper = SimpleNamespace(**({} if scaler is None else dict(loss_scaler=scaler)))
    return SimpleNamespace(iter=iteration, optim_wrapper=wrapper)


def first_stop(values, scaler=None, **options):
    """Index of the iteration that raises, and the message."""
    hook = HOOKS.build(dict(type='FiniteLossHook', **options))
    hook.before_train(runner(0))
    for index, value in enumerate(values):
        losses = dict(loss=torch.tensor(value), loss_seg=torch.tensor(value))
        try:
            hook.after_train_iter(runner(index, scaler), index, None, losses)
        except FloatingPointError as error:
            return index, str(error)
    return None


def test_steps_that_a_loss_scaler_leaves_out():
    scaler = SimpleNamespace(is_enabled=lambda: True)
    assert first_stop([NAN] * 10 + [1.0] + [NAN] * 10, scaler) is None
    index, message = first_stop([1.0, INF] + [NAN] * 20, scaler)
    assert index == 11 and 'loss_seg was inf in iteration 2' in message
    assert first_stop([1.0, NAN, NAN, NAN], scaler, max_skipped=2)[0] == 3
    off = SimpleNamespace(is_enabled=lambda: False)  # in bfloat16, say
    assert first_stop([1.0, NAN], off)[0] == 1
    with pytest.raises(ValueError, match='max_skipped'):
        HOOKS.build(dict(type='FiniteLossHook', max_skipped=-1))


def test_torch_scaler_leaves_such_a_step_out():
    """What the hook relies on."""
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler('cpu', init_scale=4.0)
    scaler.scale((weight * NAN).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert weight.item() == 1.0 and scaler.get_scale() == 2.0


def test_the_sum_is_named_only_if_it_is_alone():
    def first(**values):
        return finite_loss_hook._first_not_finite(
            {name: torch.tensor(value) for name, value in values.items()}
        )

    assert first(loss=NAN, loss_a=1.0, loss_b=INF, loss_c=NAN) == 'loss_b was inf'
    assert first(loss=INF, loss_a=1.0) == 'loss was inf'
    assert first(loss=1.0, acc_seg=NAN) is None  # a figure without any pixel
    assert first() is None


def test_images_are_named():
    samples = [SimpleNamespace(img_path='a.jpg'), SimpleNamespace(img_path='b.jpg')]
    named = finite_loss_hook._images_of(dict(data_samples=samples))
    assert named == ' (images: a.jpg, b.jpg)'
    assert finite_loss_hook._images_of(None) == finite_loss_hook._images_of({}) == ''


@pytest.mark.slow
def test_all_processes_end_together(tmp_path):
    torch.multiprocessing.spawn(ending_run.vote, (tmp_path,), nprocs=2)
    first, second = ((tmp_path / str(rank)).read_text() for rank in range(2))
    assert first.startswith('1: ') and 'a loss of another process' in first
    assert second.startswith('1: ') and 'loss_seg was nan in iteration 2' in second
