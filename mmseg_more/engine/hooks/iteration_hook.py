"""Tells the model which training iteration it is in."""

from typing import Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg.registry import HOOKS

from ...models.iteration import iterations_per_update
from .utils import unwrap_model


@HOOKS.register_module()
class IterationHook(Hook):
    """Write the 0-based training iteration to ``model.iteration``.

    The schedule of MoRe's losses and of its label maps reads it. It is written
    before every training iteration from ``runner.iter``, so it is right after
    ``resume`` too, in iteration-based and epoch-based loops.

    MoRe finds its iteration without the hook as well (see
    :class:`~mmseg_more.models.iteration.TrainingIteration`); the hook serves other models
    that read one, says in the log where a training goes on, and tells MoRe how many
    iterations an update of the weights has, also where a wrapper trains it.

    Example:
        >>> default_hooks = dict(iteration=dict(type='IterationHook'))
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Fail before the first iteration where the model does not fit."""
        model = unwrap_model(runner.model, 'iteration')
        model.iteration = runner.iter
        if hasattr(model, 'iterations_per_update'):
            model.iterations_per_update = iterations_per_update(runner.optim_wrapper)
        if runner.iter > 0:
            runner.logger.info(
                f'IterationHook: the model goes on at iteration {runner.iter}.'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Write the iteration."""
        unwrap_model(runner.model, 'iteration').iteration = runner.iter
