"""Marks the stations of a training step for PyTorch's profiler."""

import functools
from typing import Any, Callable, TypeVar, cast

from torch.profiler import record_function

Function = TypeVar('Function', bound=Callable[..., Any])


def station(name: str) -> Callable[[Function], Function]:
    """Decorator: calls of the function are ``more/NAME`` to the profiler.

    ``torch.profiler`` and ``torch.autograd.profiler`` then report its time and memory, the
    stations inside it included. Without a profiler a call costs microseconds.

    Example:
        >>> with torch.profiler.profile() as profile:
        ...     model.loss(inputs, data_samples)
        >>> for event in profile.key_averages():
        ...     if event.key.startswith('more/'):
        ...         print(event.key, event.cpu_time_total)  # microseconds
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def marked(*args: Any, **kwargs: Any) -> Any:
            # a new one for each call: record_function itself, as a decorator, is one
            # object, which calls in several threads would share
            with record_function(f'more/{name}'):
                return function(*args, **kwargs)

        return cast(Function, marked)

    return decorate
