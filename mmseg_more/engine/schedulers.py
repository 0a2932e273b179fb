"""Learning-rate schedule of MoRe."""

from mmengine.logging import print_log
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler

from mmseg.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class PolyWarmupLR(_ParamScheduler, LRSchedulerMixin):
    """Linear warm-up, then polynomial decay that is not restarted.

    At iteration ``t`` (0-based, counted from ``begin``) the learning rates are
    multiplied by ``1 - (1 - t / warmup_iters)(1 - warmup_ratio)`` while
    ``t < warmup_iters`` and by ``(1 - t / T)^power`` afterwards,
    ``T = end - begin``. At the end of the warm-up the factor drops from 1 to
    ``(1 - warmup_iters / T)^power``.

    A training that is resumed with another ``end`` (which is another ``max_iters``, where
    the config leaves it out) has from there on the rates of a training of that length, and
    the log says so.

    Args:
        optimizer: Wrapped optimizer or its OptimWrapper.
        warmup_iters: Length of the warm-up in iterations. Defaults to 1500.
        warmup_ratio: Factor at iteration 0. Defaults to 1e-6.
        power: Exponent of the decay. Defaults to 0.9.
        begin: First iteration. Defaults to 0.
        end: Iteration at which the factor is 0. The Runner fills in
            ``max_iters`` if it is left out.
        last_step: Index of the last step, for resuming. Defaults to -1.
        by_epoch: Must be False: the schedule counts iterations.
        verbose: Whether to print each change. Defaults to False.

    Raises:
        ValueError: If ``by_epoch`` is set or ``end`` is unknown.
    """

    end: int
    last_step: int

    def __init__(
        self,
        optimizer,
        warmup_iters: int = 1500,
        warmup_ratio: float = 1e-6,
        power: float = 0.9,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = False,
        verbose: bool = False,
    ) -> None:
        if by_epoch:
            raise ValueError(
                'PolyWarmupLR counts iterations: set '
                'by_epoch=False and train with a loop of iterations'
            )
        if end >= INF:
            raise ValueError('PolyWarmupLR needs `end`, the last iteration of the decay')
        if warmup_iters < 0 or power < 0:
            raise ValueError(
                f'warmup_iters and power must be >= 0, got {warmup_iters} and {power}'
            )
        self.warmup_iters = warmup_iters
        self.warmup_ratio = warmup_ratio
        self.power = power
        self.total_iters = end - begin
        super().__init__(
            optimizer,
            param_name='lr',
            begin=begin,
            end=end,
            last_step=last_step,
            by_epoch=False,
            verbose=verbose,
        )

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on where a schedule was, to the end that this one has been given."""
        own, planned = self.end, state_dict['end']
        super().load_state_dict(state_dict)
        if own == planned:
            return
        before = self.factor(self.last_step)
        self.end, self.total_iters = own, own - self.begin
        # a schedule stands still before its begin, and after its end
        step = min(self._global_step, own - 1) - self.begin
        if step >= 0:
            self.last_step = step
            # the optimizer has the rates of the checkpoint
            self._last_value = self._get_value()
            for group, value in zip(self.optimizer.param_groups, self._last_value):
                group[self.param_name] = value
        print_log(
            f'PolyWarmupLR ends at iteration {own} now and ended at {planned}: the '
            f'learning rates are {self.factor(self.last_step):.4g} instead of '
            f'{before:.4g} of their highest.',
            logger='current',
        )

    def factor(self, iteration: int) -> float:
        """Multiplier of the base learning rates at ``iteration``."""
        if iteration < self.warmup_iters:
            rest = 1 - iteration / self.warmup_iters
            return 1 - rest * (1 - self.warmup_ratio)
        return max(0.0, 1 - iteration / self.total_iters) ** self.power

    def _get_value(self):
        factor = self.factor(self.last_step)
        return [base * factor for base in self.base_values]
