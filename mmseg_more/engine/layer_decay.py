"""Learning rates that fall from layer to layer of a backbone, in any segmentor."""

from functools import partial
from typing import Any, Callable, List, Optional

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class BackboneDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's constructor, for segmentors whose backbone knows its layers' depths.

    mmpretrain asks the model itself for ``get_layer_depth``, which MMSegmentation's
    segmentors do not have; here their backbone is asked (:class:`MoReViT`, or one of
    mmpretrain). A parameter of depth ``d`` of ``D`` gets the rate
    ``lr * layer_decay_rate ** (D - 1 - d)``, and what is not in the backbone ``lr``.
    ``lr_mult`` in ``custom_keys`` has no effect, as in mmpretrain.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='BackboneDecayOptimWrapperConstructor',
        ...     optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        ...     paramwise_cfg=dict(layer_decay_rate=0.75))

    Raises:
        NotImplementedError: If neither the model nor its backbone has ``get_layer_depth``.
    """

    def add_params(
        self,
        params: List[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Optional[Callable] = None,
        **kwargs,
    ) -> None:
        """Add the groups of ``module``, as in mmpretrain's constructor."""
        backbone: Any = getattr(module, 'backbone', None)
        if get_layer_depth is None and hasattr(backbone, 'get_layer_depth'):
            get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.')
        super().add_params(params, module, prefix, get_layer_depth, **kwargs)
