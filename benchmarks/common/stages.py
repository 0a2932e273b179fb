"""Time and peak memory of a training step by stage, seen from outside.

Hooks of the model's modules say when each of them runs, forwards and backwards; what the
model does between its modules stands in ranges of ``torch.profiler.record_function`` that
the product itself names (``more/cams``, ``more/par`` and others). Nothing is replaced.
"""

import time
from bisect import bisect_right
from contextlib import ExitStack, contextmanager
from typing import (
    Any,
    Dict,
    Hashable,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Sequence,
    Tuple,
)

import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from .gemm import synchronize
from .memory import MemoryMeter

_PRODUCT = 'more/'  # beginning of the names of the product's ranges
_RANGES = dict(cams='cam_maps', training_labels='labels', par='par')
_CLOCK = 'benchmark/clock'
_CAM = 'cam_x'  # beginning of the names of the CAM's passes, ranges too; the scale follows
# modules of the network -> their stage of the forward pass
_NETWORK = dict(
    backbone='forward',
    graph='graph',
    decode_head='heads',
    classifier='heads',
    aux_classifier='heads',
)
_BACKWARD = dict(forward='backward', graph='backward_graph', heads='backward_heads')


class Span(NamedTuple):
    """A part of the time."""

    name: str
    start: float
    """Seconds of ``time.perf_counter()``."""
    end: float


class StageFigures(NamedTuple):
    """What one stage took."""

    time_s: float
    """Seconds, without those of the stages nested in it."""
    peak_mb: float
    """Peak memory while it ran, MB (2^20 bytes)."""


def innermost(spans: Iterable[Span]) -> List[Span]:
    """Cut the time into pieces, each of the span that was opened last.

    Args:
        spans: In any order; they may nest and overlap.

    Returns:
        Pieces in order of time, without overlap. What is in no span is in no piece.
    """
    spans = list(spans)
    borders = sorted({border for span in spans for border in (span.start, span.end)})
    pieces = []
    for start, end in zip(borders, borders[1:]):
        around = [span for span in spans if span.start <= start and end <= span.end]
        if around:
            # of two that begin together, the shorter is the inner one
            inner = max(around, key=lambda span: (span.start, -span.end))
            pieces.append(Span(inner.name, start, end))
    return pieces


def is_network(stage: str) -> bool:
    """Whether a stage is the network itself: its passes and their gradient."""
    return stage in _BACKWARD or stage in _BACKWARD.values() or stage.startswith(_CAM)


def run_staged(
    model: nn.Module, optim_wrapper: OptimWrapper, data: dict, device: torch.device
) -> Dict[str, StageFigures]:
    """Run one training step and say what each stage took.

    Stages: ``data`` (batch to the device, normalised), ``forward`` (backbone), ``graph``
    (GCR), ``heads``, ``cam_x{scale}`` (passes of the CAM), ``cam_maps`` (resize, merge and
    normalise them), ``labels`` (training labels), ``par`` (PAR on them), the losses by
    their names, ``backward_losses``, ``backward_graph``, ``backward_heads``, ``backward``
    (backbone), ``optimizer``; what is in none of them is ``other``. A stage that does not
    run is absent.

    On a CPU the times are those of the clock and add up to the step. On a GPU they are
    those of the kernels that a stage has launched.

    Args:
        model: The segmentor :class:`MoRe`.
        optim_wrapper: Its optimizer.
        data: A batch as the data loader gives it.
        device: Of the model.

    Returns:
        The stages in the order in which they begin, ``other`` at the end.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == 'cuda':
        activities.append(ProfilerActivity.CUDA)
    recorder = _Recorder()
    synchronize(device)
    with MemoryMeter(device) as memory, profile(activities=activities) as profiler:
        clocks = [_read_clock() for _ in range(6)]
        with recorder.span('other'), _module_hooks(model, recorder):
            _step(model, optim_wrapper, data, recorder)
            synchronize(device)
    events = profiler.events()
    offset = _clock_offset(clocks, events)
    spans = [
        Span(
            stage,
            offset + event.time_range.start / 1e6,
            offset + event.time_range.end / 1e6,
        )
        for event in events
        if event.device_type == DeviceType.CPU
        for stage in _stages_of_range(event.name)
    ]
    pieces = innermost(recorder.spans + spans)
    if device.type == 'cuda':
        times = _kernel_times(pieces, events, offset)
    else:
        times = [piece.end - piece.start for piece in pieces]
    figures: Dict[str, StageFigures] = {}
    for piece, seconds in zip(pieces, times):
        peak_mb = memory.peak_between(piece.start, piece.end)
        before = figures.get(piece.name, StageFigures(0.0, 0.0))
        figures[piece.name] = StageFigures(
            before.time_s + seconds, max(before.peak_mb, peak_mb)
        )
    figures['other'] = figures.pop('other')
    return figures


def _read_clock() -> float:
    with record_function(_CLOCK):
        return time.perf_counter()


def _clock_offset(clocks: Sequence[float], events: Iterable[Any]) -> float:
    """Seconds from the profiler's clock to that of :func:`_read_clock`.

    Args:
        clocks: Readings, in order.
        events: Of the profiler. The shortest event of a reading counts: another process
            may have come between in the others, and the first sets things up.
    """
    ranges = sorted(
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.name == _CLOCK
    )
    readings = zip(clocks, ranges)
    clock, (start, _) = min(readings, key=lambda reading: reading[1][1] - reading[1][0])
    return clock - start / 1e6


def _stages_of_range(name: str) -> List[str]:
    """The stage that a profiled event opens, if it is one of the product's ranges."""
    if not name.startswith(_PRODUCT):
        return []
    name = name[len(_PRODUCT) :]
    return [name] if name.startswith(_CAM) else [_RANGES[name]] if name in _RANGES else []


def _kernel_times(pieces: List[Span], events: Iterable[Any], offset: float) -> List[float]:
    """Seconds of the kernels that were launched within each piece.

    Args:
        pieces: In order of time.
        events: Of the profiler, in microseconds of its own clock.
        offset: From that clock to that of the pieces, seconds.
    """
    starts, times = [piece.start for piece in pieces], [0.0] * len(pieces)
    for event in events:
        if event.kernels and not event.is_user_annotation:
            position = bisect_right(starts, offset + event.time_range.start / 1e6) - 1
            if position >= 0:
                times[position] += sum(kernel.duration for kernel in event.kernels) / 1e6
    return times


class _Recorder:
    """Takes down which spans begin and end."""

    def __init__(self) -> None:
        self.spans: List[Span] = []
        self._open: Dict[Hashable, Tuple[str, float]] = {}

    def start(self, key: Hashable, name: str) -> None:
        self._open[key] = name, time.perf_counter()

    def stop(self, key: Hashable) -> None:
        if key in self._open:
            self.spans.append(Span(*self._open.pop(key), time.perf_counter()))

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        self.start(name, name)
        try:
            yield
        finally:
            self.stop(name)


def _step(
    model: nn.Module, optim_wrapper: OptimWrapper, data: dict, recorder: _Recorder
) -> None:
    """``model.train_step(data, optim_wrapper)`` in its parts, by MMEngine's definition."""
    with optim_wrapper.optim_context(model):
        with recorder.span('data'):
            batch = model.data_preprocessor(data, True)
        losses = model(**batch, mode='loss')
    loss = optim_wrapper.scale_loss(model.parse_losses(losses)[0])
    with recorder.span('backward_losses'):
        optim_wrapper.backward(loss)
    recorder.stop((model.backbone, 'backward'))
    with recorder.span('optimizer'):
        optim_wrapper.step()
        optim_wrapper.zero_grad()


@contextmanager
def _module_hooks(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Have the modules of the network and the losses say when they run."""
    with ExitStack() as stack:
        for name, stage in _NETWORK.items():
            module = getattr(model, name)
            if module is not None:
                stack.enter_context(_forward_hooks(module, recorder, stage))
                stack.enter_context(_backward_hooks(module, recorder, _BACKWARD[stage]))
        for name, module in model.loss_schedule.losses.items():
            stack.enter_context(_forward_hooks(module, recorder, name))
        yield


@contextmanager
def _forward_hooks(module: nn.Module, recorder: _Recorder, name: str) -> Iterator[None]:
    """A span for each call that records a gradient: those of the CAM do not."""

    def start(module: nn.Module, args: tuple) -> None:
        if torch.is_grad_enabled():
            recorder.start(module, name)

    with (
        module.register_forward_pre_hook(start),
        module.register_forward_hook(lambda *_: recorder.stop(module)),
    ):
        yield


@contextmanager
def _backward_hooks(module: nn.Module, recorder: _Recorder, name: str) -> Iterator[None]:
    """A span from the gradient of the outputs to that of the inputs.

    The inputs of the backbone, images, have none: its span is left open.
    """
    key = (module, 'backward')
    with ExitStack() as stack:
        stack.enter_context(
            module.register_full_backward_pre_hook(lambda *_: recorder.start(key, name))
        )
        if name != _BACKWARD['forward']:
            stack.enter_context(
                module.register_full_backward_hook(lambda *_: recorder.stop(key))
            )
        yield
