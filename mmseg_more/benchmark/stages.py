"""Time and peak memory of a run by stage."""

import functools
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple, Union

import torch
from torch import Tensor, nn

from .gemm import synchronize
from .memory import MemoryMeter

Name = Union[str, Callable[..., str]]
"""Name of a stage, or a function of the call's arguments that gives it."""


class StageResult(NamedTuple):
    """One stage, over all rounds."""

    time_s: float
    """Seconds, without those of the stages nested in it."""
    peak_mb: float
    """Peak memory while it ran."""


class StageMeter:
    """Clock that always runs for exactly one stage.

    A stage that starts within another stops the other's clock until it ends, so that the
    times add up to the whole. The device is waited for at each border.

    Args:
        device: Where the model runs.
        memory: A meter that has been entered.
    """

    def __init__(self, device: torch.device, memory: MemoryMeter) -> None:
        self.device, self.memory = device, memory
        self._open: List[str] = []
        self._since = 0.0
        self._times: Dict[str, float] = {}
        self._peaks: Dict[str, float] = {}

    @property
    def current(self) -> str:
        """Innermost stage that is open, '' if none is."""
        return self._open[-1] if self._open else ''

    def is_open(self, name: str) -> bool:
        """Whether the stage is open, at whatever depth."""
        return name in self._open

    def _account(self) -> None:
        synchronize(self.device)
        now, peak = time.perf_counter(), self.memory.take()
        if self._open:
            name = self._open[-1]
            self._times[name] = self._times.get(name, 0.0) + now - self._since
            self._peaks[name] = max(self._peaks.get(name, 0.0), peak)
        self._since = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Everything within the block belongs to the stage ``name``."""
        self._account()
        self._open.append(name)
        try:
            yield
        finally:
            self._account()
            self._open.pop()

    def wrap(self, name: Name, function: Callable) -> Callable:
        """``function`` as a stage."""

        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.stage(name if isinstance(name, str) else name(*args, **kwargs)):
                return function(*args, **kwargs)

        return timed

    def results(self) -> Dict[str, StageResult]:
        """All stages in the order in which they first ended."""
        return {
            name: StageResult(time_s, self._peaks[name])
            for name, time_s in self._times.items()
        }


class StageModule(nn.Module):
    """Stands in for a module and runs it as a stage, compiled or not.

    Attributes are those of the module, so that its users see no difference.

    Args:
        module: The module itself.
        call: Takes the place of ``module(...)``.
    """

    def __init__(self, module: nn.Module, call: Callable) -> None:
        super().__init__()
        self.module = module
        self.call = call

    def forward(self, *args, **kwargs) -> Any:
        return self.call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('module'), name)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of an object or module, and undo that."""
    own = name in vars(owner)  # else its class has it
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


@contextmanager
def replaced_module(parent: nn.Module, name: str, value: nn.Module) -> Iterator[None]:
    """Put another module in the place of a child, and undo that."""
    original = parent._modules[name]
    parent._modules[name] = value
    try:
        yield
    finally:
        parent._modules[name] = original


class GraphCuts:
    """Cut the graph at outputs of modules, so that a backward pass stops there.

    Its parts can then be timed one by one; together they give the same gradients.
    """

    def __init__(self) -> None:
        self._cuts: List[Tuple[str, List[tuple]]] = []

    def cut(self, name: str, outputs: Any) -> Any:
        """Outputs that backward passes stop at.

        Args:
            name: What the module's backward pass is called.
            outputs: A tensor or a NamedTuple of them.
        """
        if not torch.is_grad_enabled():
            return outputs
        pairs: List[tuple] = []

        def leaf(tensor):
            if tensor is None or not tensor.requires_grad:
                return tensor
            pairs.append((tensor, tensor.detach().requires_grad_()))
            return pairs[-1][1]

        cut = (
            leaf(outputs)
            if isinstance(outputs, Tensor)
            else type(outputs)(*map(leaf, outputs))
        )
        self._cuts.append((name, pairs))
        return cut

    def backward(self, meter: StageMeter) -> None:
        """Go on from the last cut to the first, each a stage."""
        while self._cuts:
            name, pairs = self._cuts.pop()
            pairs = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
            if pairs:
                with meter.stage(name):
                    torch.autograd.backward(*zip(*pairs))
