"""The stages of MoRe's training step."""

import functools
from contextlib import ExitStack, contextmanager
from typing import Callable, Dict, Iterator, Tuple

from mmengine.optim import OptimWrapper
from torch import nn

from ..localization import scaled_size
from .flops import grid_of
from .stages import GraphCuts, StageMeter, StageModule, replaced, replaced_module

_CAM = 'cam_x'  # beginning of the passes' names; the scale follows
# modules of the network -> their stage of the forward pass
_NETWORK = dict(
    backbone='forward',
    graph='graph',
    decode_head='heads',
    classifier='heads',
    aux_classifier='heads',
)
_BACKWARD = dict(forward='backward', graph='backward_graph', heads='backward_heads')


def is_network(stage: str) -> bool:
    """Whether a stage is the network itself: its passes and their gradient."""
    return stage in _BACKWARD or stage in _BACKWARD.values() or stage.startswith(_CAM)


def overhead(stages: Dict[str, Dict[str, float]]) -> float:
    """Share of everything but the network; optimizer and data count too.

    Args:
        stages: Name -> figures, among them ``share``.
    """
    return 1 - sum(stage['share'] for name, stage in stages.items() if is_network(name))


class _PassNames:
    """Says which pass a call of the backbone or of a head belongs to."""

    def __init__(self, model: nn.Module, meter: StageMeter) -> None:
        self.model, self.meter = model, meter
        self._scales: Dict[Tuple[int, int], str] = {}  # size or grid -> stage

    def start_cams(self, size: Tuple[int, int]) -> None:
        """The CAM passes over images of ``size`` begin."""
        for scale in self.model.train_scales:
            scaled = scaled_size(size, scale)
            for key in (scaled, grid_of(self.model.backbone, scaled)):
                self._scales[tuple(key)] = f'{_CAM}{scale:g}'

    def of(self, module: str) -> Callable[..., str]:
        """Stage of a call of the module, by its arguments."""

        def name(inputs, *args, **kwargs) -> str:
            if not self.meter.is_open('cam_maps'):
                return _NETWORK[module]
            return self._scales[tuple(inputs.shape[-2:])]

        return name


@contextmanager
def staged(
    model: nn.Module, optim_wrapper: OptimWrapper, meter: StageMeter
) -> Iterator[None]:
    """Let the parts of ``model.train_step`` run as stages of ``meter``.

    The model's own methods are wrapped and its modules stood in for; the step itself is
    the real one. Its graph is cut behind the modules of the network, which tells the
    backward pass of the losses from that of the network.

    Stages: ``data`` (batch to the device, normalised), ``forward`` (backbone), ``graph``
    (GCR), ``heads``, ``cam_x{scale}`` (passes of the CAM), ``cam_maps`` (resize, merge and
    normalise them), ``labels`` (patch labels), ``par`` (refined labels), the losses by
    their names, ``backward_losses``, ``backward_graph``, ``backward_heads``, ``backward``
    (backbone), ``optimizer``. What is in none of them counts for the stage that the step
    runs in.

    Args:
        model: The segmentor :class:`MoRe`.
        optim_wrapper: Its optimizer.
        meter: Takes time and memory.
    """
    cuts, names = GraphCuts(), _PassNames(model, meter)
    losses, labeler = model.loss_schedule.losses, model.pseudo_labeler
    run_cams = meter.wrap('cam_maps', model.training_cams)
    run_backward = meter.wrap('backward_losses', optim_wrapper.backward)

    def training_cams(inputs, *args, **kwargs):
        names.start_cams(tuple(inputs.shape[-2:]))
        return run_cams(inputs, *args, **kwargs)

    def backward(*args, **kwargs):
        run_backward(*args, **kwargs)
        cuts.backward(meter)

    with ExitStack() as stack:
        for name, stage in _NETWORK.items():
            module = getattr(model, name)
            if module is not None:
                cut = functools.partial(cuts.cut, _BACKWARD[stage])
                stack.enter_context(
                    replaced_module(
                        model,
                        name,
                        StageModule(module, _then(meter.wrap(names.of(name), module), cut)),
                    )
                )
        for parent, name, stage in (
            (model, 'data_preprocessor', 'data'),
            *((losses, loss, loss) for loss in losses),
        ):
            module = parent._modules[name]
            stack.enter_context(
                replaced_module(
                    parent, name, StageModule(module, meter.wrap(stage, module))
                )
            )
        for owner, name, value in (
            (model, 'training_cams', training_cams),
            (labeler, 'patch_labels', meter.wrap('labels', labeler.patch_labels)),
            (labeler, 'refined_labels', meter.wrap('par', labeler.refined_labels)),
            (optim_wrapper, 'backward', backward),
            (optim_wrapper, 'step', meter.wrap('optimizer', optim_wrapper.step)),
            (optim_wrapper, 'zero_grad', meter.wrap('optimizer', optim_wrapper.zero_grad)),
        ):
            stack.enter_context(replaced(owner, name, value))
        yield


def _then(first: Callable, second: Callable) -> Callable:
    return lambda *args, **kwargs: second(first(*args, **kwargs))
