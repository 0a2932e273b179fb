"""Learning-rate schedule of MoRe."""

from typing import List, Optional, Union

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from torch.optim import Optimizer

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

    With ``convert_to_iter_based=True`` and ``by_epoch=True`` in the config, as for
    MMEngine's schedulers, ``begin``, ``end`` and ``warmup_epochs`` are given in epochs,
    and ``end`` is the training's ``max_epochs`` if it is left out.

    Example:
        >>> param_scheduler = [dict(
        ...     type='PolyWarmupLR', warmup_epochs=1, by_epoch=True,
        ...     convert_to_iter_based=True)]

    Args:
        optimizer: Wrapped optimizer or its OptimWrapper.
        warmup_iters: Length of the warm-up in iterations, always. Defaults to 1500.
        warmup_epochs: Length of the warm-up in epochs, in place of ``warmup_iters``, for
            ``convert_to_iter_based`` alone. Defaults to None.
        warmup_ratio: Factor at iteration 0. Defaults to 1e-6.
        power: Exponent of the decay. Defaults to 0.9.
        begin: First iteration. Defaults to 0.
        end: Iteration at which the factor is 0. The Runner fills in
            ``max_iters`` if it is left out.
        last_step: Index of the last step, for resuming. Defaults to -1.
        by_epoch: False, the schedule counts iterations; True goes with
            ``convert_to_iter_based`` alone. Defaults to False.
        verbose: Whether to print each change. Defaults to False.

    Raises:
        ValueError: If epochs are given and not converted, or ``end`` is unknown.
    """

    end: int
    last_step: int

    def __init__(
        self,
        optimizer: Union[Optimizer, OptimWrapper],
        warmup_iters: int = 1500,
        warmup_ratio: float = 1e-6,
        power: float = 0.9,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = False,
        verbose: bool = False,
        warmup_epochs: Optional[float] = None,
    ) -> None:
        if by_epoch or warmup_epochs is not None:
            raise ValueError(
                'PolyWarmupLR counts iterations: set by_epoch=False and train with a loop '
                'of iterations, or set by_epoch=True and convert_to_iter_based=True to '
                'give begin, end and warmup_epochs in epochs'
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

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: Union[Optimizer, OptimWrapper],
        *,
        epoch_length: int,
        begin: float = 0,
        end: float = INF,
        warmup_epochs: Optional[float] = None,
        by_epoch: bool = True,
        **kwargs,
    ) -> 'PolyWarmupLR':
        """Build it from lengths in epochs: what ``convert_to_iter_based=True`` calls.

        Args:
            optimizer: As for the class.
            epoch_length: Iterations of an epoch.
            begin: First epoch. Defaults to 0.
            end: Epoch at which the factor is 0.
            warmup_epochs: Length of the warm-up. None: ``warmup_iters``.
            by_epoch: True, as for MMEngine's schedulers.
            **kwargs: The other arguments of the class.

        Raises:
            ValueError: If ``by_epoch`` is False, or the warm-up has two lengths.
        """
        if not by_epoch:
            raise ValueError('convert_to_iter_based=True needs by_epoch=True')
        if warmup_epochs is not None:
            if 'warmup_iters' in kwargs:
                raise ValueError('give warmup_iters or warmup_epochs, not both')
            kwargs['warmup_iters'] = int(warmup_epochs * epoch_length)
        if end < INF:
            end = end * epoch_length
        return cls(optimizer, begin=int(begin * epoch_length), end=int(end), **kwargs)

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on where a schedule was, to the end that this one has been given."""
        own, planned = self.end, state_dict['end']
        super().load_state_dict(state_dict)
        if own == planned:
            return
        before = self.factor(max(self.last_step, 0))  # -1 before its begin
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
            f'learning rates are {self.factor(max(self.last_step, 0)):.4g} instead of '
            f'{before:.4g} of their highest.',
            logger='current',
        )

    def factor(self, iteration: int) -> float:
        """Multiplier of the base learning rates at ``iteration``."""
        if iteration < self.warmup_iters:
            rest = 1 - iteration / self.warmup_iters
            return 1 - rest * (1 - self.warmup_ratio)
        return max(0.0, 1 - iteration / self.total_iters) ** self.power

    def _get_value(self) -> List[float]:
        factor = self.factor(self.last_step)
        return [base * factor for base in self.base_values]
