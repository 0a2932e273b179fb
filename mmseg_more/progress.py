"""Work on many files, in several processes, with a bar that says how long it takes."""

from typing import Any, Iterable, Iterator, Optional, TypeVar

from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

Item = TypeVar('Item')


def with_progress(
    items: Iterable[Item],
    title: str,
    total: Optional[int] = None,
    transient: bool = False,
    disable: bool = False,
) -> Iterator[Item]:
    """The items, with a bar on standard error that shows the time left.

    Where that is no terminal, it is one line at the end.

    Args:
        items: What is worked on.
        title: What the bar is called.
        total: Number of items, unless they have a length.
        transient: Whether nothing of the bar is left at the end.
        disable: Whether there is no bar.
    """
    bar = track(
        items,
        title,
        total=total,
        console=Console(stderr=True),
        transient=transient,
        disable=disable,
    )
    return iter(bar)


def in_processes(tasks: Dataset, num_workers: int, title: str) -> Iterator[Any]:
    """``tasks[0], tasks[1], ...`` in order, worked out in other processes.

    A task that raises ends it all; the error says where.

    Args:
        tasks: A data set whose items are the results.
        num_workers: Processes; 0: this one alone.
        title: What the bar is called.
    """
    # a DataLoader ends its workers whatever ends this process, and tells when one dies
    results = DataLoader(
        tasks, batch_size=None, num_workers=num_workers, collate_fn=_unchanged
    )
    return with_progress(results, title, total=len(results))


def _unchanged(result: Any) -> Any:
    return result
