"""Which losses count at which iteration."""

from typing import Dict, List, Mapping, NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmseg.registry import MODELS

DEFAULT_LOSSES: Dict[str, dict] = dict(
    cls=dict(type='MultiLabelSoftMarginLoss'),
    cls_aux=dict(type='MultiLabelSoftMarginLoss'),
    mct=dict(type='TokenDiscriminationLoss'),
    ptc=dict(type='PatchAffinityLoss', loss_weight=0.3),
    cre=dict(type='ConfidentRelationLoss', temperature=0.5, loss_weight=0.2),
    ure=dict(type='UncertainRelationLoss', loss_weight=0.1),
    seg=dict(type='BalancedCrossEntropyLoss', loss_weight=0.12, begin=2000),
    energy=dict(type='DenseEnergyLoss', loss_weight=0.05, begin=2000),
)
"""MoRe's losses with the weights for VOC."""

_MAP_LOSSES = ('ptc', 'cre', 'ure', 'seg', 'energy')
REACHED_BY = dict(
    classifier=('cls',),
    aux_classifier=('cls_aux',),
    graph=('mct', 'cre'),
    decode_head=('seg', 'energy'),
)
"""Module -> losses whose gradient reaches it."""


class ActiveLosses(NamedTuple):
    """Names of the losses that count at an iteration."""

    names: List[str]
    """In the order of :data:`DEFAULT_LOSSES`."""

    @property
    def need_maps(self) -> bool:
        """Whether one of them needs localization maps."""
        return any(name in _MAP_LOSSES for name in self.names)

    @property
    def need_refined_labels(self) -> bool:
        """Whether one of them needs labels of image size."""
        return 'seg' in self.names or 'energy' in self.names

    @property
    def need_class_tokens(self) -> bool:
        """Whether one of them needs the class tokens after GCR."""
        return any(name in ('mct', 'cre', 'ure') for name in self.names)

    def reach(self, module: str) -> bool:
        """Whether one of them gives the module a gradient."""
        return any(name in self.names for name in REACHED_BY[module])


class LossSchedule(BaseModule):
    """The loss modules with the iteration after which each counts.

    Args:
        losses: Name -> config of a loss module, with the extra key
            ``begin`` (the loss counts while ``iteration > begin``; absent:
            always). Names are those of :data:`DEFAULT_LOSSES`.
            ``loss_weight=0``: never computed.

    Raises:
        ValueError: For an unknown name or if nothing is ever computed.
    """

    def __init__(self, losses: Mapping[str, dict]) -> None:
        super().__init__()
        unknown = sorted(set(losses) - set(DEFAULT_LOSSES))
        if unknown:
            raise ValueError(
                f'unknown losses {unknown}: choose from {list(DEFAULT_LOSSES)}'
            )
        self.begin: Dict[str, int] = {}
        modules = {}
        for name in DEFAULT_LOSSES:
            if losses.get(name) is None:
                continue
            cfg = dict(losses[name])
            begin = cfg.pop('begin', None)
            module = MODELS.build(cfg)
            if module.loss_weight:
                modules[name] = module
                self.begin[name] = -1 if begin is None else int(begin)
        if not modules:
            raise ValueError('every loss has weight 0: nothing to train')
        self.losses = nn.ModuleDict(modules)

    def active(self, iteration: int) -> ActiveLosses:
        """Losses that count at the 0-based ``iteration``.

        Or update of the weights, see ``schedule_unit`` of :class:`MoRe`.
        """
        return ActiveLosses([name for name in self.losses if iteration > self.begin[name]])

    def __getitem__(self, name: str) -> nn.Module:
        return self.losses[name]


def zero_gradient(module: nn.Module) -> Tensor:
    """0, with a zero gradient for each parameter of ``module``.

    The optimizer then treats the parameters as in a step whose losses have weight
    0: weights decay, step counts go on. It also keeps
    DistributedDataParallel from waiting for them.
    """
    trained = [p.sum() for p in module.parameters() if p.requires_grad]
    return torch.stack(trained).sum() * 0.0 if trained else torch.zeros(())
