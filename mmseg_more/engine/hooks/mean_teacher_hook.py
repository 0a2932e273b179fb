"""Training labels by the moving average of the weights (Tarvainen and Valpola, 2017)."""

from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from mmseg.registry import HOOKS

from .utils import unwrap_model


@HOOKS.register_module()
class MeanTeacherHook(EMAHook):
    """Let a moving average of the model, the teacher, make the training labels.

    Differs from the paper: there the model that is trained makes its own labels. A class
    may take the background along for some iterations (docs/results.md, "Why a class
    floods"), and if the losses learn from that, it stays so. The teacher follows slowly:
    the losses keep pulling towards what the maps showed before.

    All else is MMEngine's :class:`~mmengine.hooks.EMAHook`: validations score the teacher,
    and checkpoints hold its weights as ``state_dict`` and, for resuming, those that are
    trained as ``ema_state_dict``.

    The cost is one pass without a gradient per step, since the forward pass of the step
    does not serve the labels, and the memory of a second copy of the weights.

    Args:
        ema_type: Kind of average, as in :class:`~mmengine.hooks.EMAHook`. Defaults to
            'MomentumAnnealingEMA': the share of the new weights falls from 1 as
            ``gamma / (gamma + step)``, down to ``momentum``.
        momentum: Share of the new weights in each iteration, in (0, 1), also in those that
            only accumulate gradients. The average spans some ``1 / momentum`` iterations.
            Defaults to 0.01.
        **average: More arguments of ``ema_type`` (``gamma``, ``interval``), and
            ``begin_iter`` and ``strict_load`` of :class:`~mmengine.hooks.EMAHook`.

    Raises:
        AttributeError: At the start of the training, if the model takes no teacher.

    Example:
        >>> default_hooks = dict(teacher=dict(type='MeanTeacherHook', momentum=0.01))
    """

    def __init__(
        self, ema_type: str = 'MomentumAnnealingEMA', momentum: float = 0.01, **average
    ) -> None:
        super().__init__(ema_type=ema_type, momentum=momentum, **average)

    def before_train(self, runner: Runner) -> None:
        """Give the model its teacher."""
        super().before_train(runner)
        teacher = self.ema_model.module
        teacher.eval()
        unwrap_model(runner.model, 'learn_from').learn_from(teacher)
        runner.logger.info(
            'MeanTeacherHook: training labels come from a moving average of the weights.'
        )

    def after_train(self, runner: Runner) -> None:
        """Take it back."""
        unwrap_model(runner.model, 'learn_from').learn_from(None)
