"""Which iteration the training is in, by whatever MMEngine says it."""

from typing import Any, Optional, Tuple

import torch
import torch.distributed
from mmengine.logging import MessageHub


class TrainingIteration:
    """The 0-based training iteration of a model.

    MMEngine does not tell a model its iteration. It is taken from what the training hands
    on, so that it is right whatever hooks a config has:

    * ``train_step`` gets the optimizer wrapper, which counts the iterations
      (:meth:`follow_optimizer`); the runner starts its count, after a resume too;
    * where a wrapper (DistributedDataParallel) calls ``forward`` alone, MMEngine's own
      ``RuntimeInfoHook`` has told the message hub (:meth:`follow_message_hub`).

    Either way it may be asked for the update of the weights that the iteration belongs to
    (:meth:`update`), where gradients are accumulated over several.

    A number that is :meth:`set` stays until a training goes on after it: the message hub of
    an earlier runner in the same process changes nothing.

    The compiler leaves these methods alone. A step that is compiled as a whole would
    otherwise be compiled again at each iteration, for its number.
    """

    def __init__(self) -> None:
        self.set(0)
        self._is_known = False
        self.per_update: Optional[int] = None
        """Iterations of an update; None until somebody has said it."""

    @property
    def value(self) -> int:
        """The iteration."""
        return self._value

    @torch.compiler.disable
    def set(self, value: int) -> None:
        """Take this for the iteration."""
        self._value = int(value)
        self._heard = _message_hub_iteration()
        self._is_known = True

    @torch.compiler.disable
    def follow_optimizer(self, optim_wrapper: Any) -> None:
        """Take the iteration, and those of an update, from the optimizer wrapper.

        The iteration stays if no runner has started its count: somebody calls
        ``train_step`` in a loop of their own.
        """
        self.per_update = iterations_per_update(optim_wrapper)
        # -1 until OptimWrapper.initialize_count_status(), which the runner calls
        if getattr(optim_wrapper, '_max_counts', -1) >= 0:
            self.set(optim_wrapper.inner_count)

    def update(self, iteration: int) -> int:
        """The 0-based update of the weights that an iteration belongs to.

        Raises:
            RuntimeError: If nobody ever said how many iterations an update has.
        """
        if self.per_update is None:
            raise RuntimeError(
                "schedule_unit='updates': the model has not been told how many iterations "
                'an update of the weights has. Where a wrapper trains it '
                "(DistributedDataParallel), add dict(type='IterationHook'); in a loop of "
                'your own set model.iterations_per_update'
            )
        return iteration // self.per_update

    @torch.compiler.disable
    def follow_message_hub(self) -> None:
        """Take the iteration from the message hub, if that has changed.

        Raises:
            RuntimeError: If several processes train, and nobody ever said the iteration.
        """
        heard = _message_hub_iteration()
        if heard is not None and heard != self._heard:
            self._value, self._heard, self._is_known = heard[1], heard, True
        if not self._is_known and torch.distributed.is_initialized():
            raise RuntimeError(
                'the model cannot know the iteration of this training, by which its losses '
                "begin: MMEngine's RuntimeInfoHook, one of its default hooks, has been "
                "removed. Keep it, add dict(type='IterationHook'), or, in a loop of your "
                'own, set model.iteration before each step'
            )


def iterations_per_update(optim_wrapper: Any) -> int:
    """``accumulative_counts`` of an optimizer wrapper, 1 where it has none."""
    return int(getattr(optim_wrapper, '_accumulative_counts', 1))


def _message_hub_iteration() -> Optional[Tuple[str, int]]:
    """Name of the latest message hub and the iteration that it knows, if it does."""
    hub = MessageHub.get_current_instance()
    iteration = hub.get_info('iter')
    return None if iteration is None else (hub.instance_name, int(iteration))
